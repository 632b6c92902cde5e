use super::*;
use crate::protocol::{Received, receive, send};

fn socket_ids() -> Vec<SocketId> {
    let places = [
        Place::File("/run/s/a b".into()),
        Place::File("/run/s/a".into()),
        Place::Abstract(b"x\xff y".to_vec()),
        Place::Internet("[::1]:80".parse().unwrap()),
    ];
    let id = |(index, place)| {
        let file = (index % 2 == 0).then_some(FileId { device: 7, inode: index as u64 });
        SocketId { place, file, is_on_demand: index == 2 }
    };
    places.into_iter().enumerate().map(id).collect()
}

fn from_vassal() -> Vec<FromVassal> {
    let failure =
        SetupFailure { phase: "as-user".into(), index: 2, what: "exec fuse-zip: no".into(), errno: 2 };
    vec![
        FromVassal::Running,
        FromVassal::Transcript,
        FromVassal::App(7),
        FromVassal::Stopping(Duration::from_millis(10_250)),
        FromVassal::Exiting(ExitReason::App(WaitStatus::Exited(-1))),
        FromVassal::Exiting(ExitReason::App(WaitStatus::Signaled(9))),
        FromVassal::Exiting(ExitReason::App(WaitStatus::Dumped(11))),
        FromVassal::Exiting(ExitReason::Stopped),
        FromVassal::Exiting(ExitReason::OutOfMemory(3)),
        FromVassal::Exiting(ExitReason::AppSaid(WaitStatus::Exited(255), "its last line: no".into())),
        FromVassal::Exiting(ExitReason::AppSaid(WaitStatus::Signaled(9), String::new())),
        FromVassal::Exiting(ExitReason::AppSaid(WaitStatus::Dumped(11), "\u{fffd}".into())),
        FromVassal::Output("file:/a b\njournal".into()),
        FromVassal::Warnings("a.ini:2:1: no; 2 more".into()),
        FromVassal::Exiting(ExitReason::Config("a.ini:3:1: unknown".into())),
        FromVassal::Exiting(ExitReason::Setup(failure)),
        FromVassal::Exiting(ExitReason::MountLost("mountpoint /app lost: ENOTCONN".into())),
        FromVassal::Exiting(ExitReason::NotReady("ready-check: exited with status 1".into())),
        FromVassal::Reloading(Duration::from_millis(12_001)),
        FromVassal::Reloaded,
        FromVassal::Refused("a.ini:3:1: unknown".into()),
        FromVassal::NeedsRespawn("uid has changed".into()),
        FromVassal::Announced(Announcement::Ready),
        FromVassal::Unready,
        FromVassal::NotReady("ready-check: no".into()),
        FromVassal::Announced(Announcement::Loyal),
        FromVassal::Announced(Announcement::Leave),
        FromVassal::Announced(Announcement::Reloading),
        FromVassal::Announced(Announcement::Stopping),
        FromVassal::Announced(Announcement::Stuck),
        FromVassal::Announced(Announcement::Heartbeat),
        FromVassal::Announced(Announcement::Status("busy".into())),
        FromVassal::Sockets(socket_ids()),
        FromVassal::Sockets(Vec::new()),
        FromVassal::Keep(socket_ids().remove(1)),
        FromVassal::Replication(Replication {
            replicas: 3,
            is_rolling: true,
            ready_after: Duration::from_millis(1),
            ready_timeout: Duration::from_secs(7),
            says_ready: true,
        }),
        FromVassal::Mountpoints(vec![report()]),
    ]
}

fn report() -> MountReport {
    MountReport {
        path: "/app".into(),
        fs_type: "fuse.fuse-zip".into(),
        daemon: 6,
        state: MountState::Lost,
        round_trip: Some(Duration::from_nanos(31_415)),
        lost: 2,
        last: "no answer for 5 s".into(),
    }
}

fn to_vassal() -> Vec<ToVassal> {
    let name = OsString::from_vec(b"\xff name\n".to_vec());
    let command = OsString::from_vec(b"exec:echo \xff".to_vec());
    let as_vassal = vec![("hook-as-vassal".into(), command), ("exec-as-vassal".into(), "".into())];
    let before = vec![("set".into(), "a=b".into())];
    let behind = vec![("include".into(), "/x.ini".into())];
    let owner = Some(FileOwner { uid: u32::MAX, gid: 7, initgroups: true });
    let path = "/v/a.ini".into();
    let cgroup = "/sys/fs/cgroup/v".into();
    let (namespaces, is_program, is_check, kept) = (1 << 40, true, true, 2);
    let hello = Hello {
        name,
        path,
        namespaces,
        as_vassal,
        is_program,
        is_transcript: true,
        replica: 1,
        is_one_of_several: false,
        is_check,
        kept,
        owner,
        cgroup,
        before,
        behind,
    };
    let nobodys = Hello { owner: None, ..hello.clone() };
    vec![
        ToVassal::Hello(hello),
        ToVassal::Hello(nobodys),
        ToVassal::Stop,
        ToVassal::StopGracefully,
        ToVassal::StopNow,
        ToVassal::Reload,
        ToVassal::Kept(socket_ids().remove(0)),
        ToVassal::Kept(socket_ids().remove(2)),
        ToVassal::Lent(socket_ids().remove(1)),
        ToVassal::TakesOver,
        ToVassal::GiveUp,
        ToVassal::Mountpoints,
        ToVassal::Outside,
    ]
}

/// A packet in all ways that must be refused: every proper beginning of it, with one byte too many, and of
/// another version.
fn spoiled(packet: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<_> = (0..packet.len()).map(|end| packet[..end].to_vec()).collect();
    all.push([packet, b"\0"].concat());
    all.push([&[VERSION + 1], &packet[1..]].concat());
    all
}

#[test]
fn every_message_survives_the_wire() {
    for message in from_vassal() {
        assert_eq!(FromVassal::decode(&message.encode()), Some(message));
    }
    for message in to_vassal() {
        assert_eq!(ToVassal::decode(&message.encode()), Some(message));
    }
}

#[test]
fn cut_padded_or_foreign_packets_are_refused() {
    for message in from_vassal() {
        for packet in spoiled(&message.encode()) {
            assert_eq!(FromVassal::decode(&packet), None, "{message:?}: {packet:?}");
        }
    }
    for message in to_vassal() {
        for packet in spoiled(&message.encode()) {
            assert_eq!(ToVassal::decode(&packet), None, "{message:?}: {packet:?}");
        }
    }
    assert_eq!(ToVassal::decode(&[VERSION, 0, 255, 255, 255, 255]), None);
}

#[test]
fn a_report_fits_however_long_its_texts_are() {
    let long = MountReport { last: "x".repeat(TEXT_MAX), ..report() };
    let all = FromVassal::Mountpoints(vec![long; 2 * REPORTS_MAX]).encode();
    assert!(all.len() <= PACKET_MAX, "{}", all.len());
    let Some(FromVassal::Mountpoints(reports)) = FromVassal::decode(&all) else { panic!("no report") };
    assert_eq!(reports.len(), REPORTS_MAX);
    let states = MountState::ALL.map(|state| state as usize);
    assert_eq!(states, [0, 1, 2, 3]);
}

#[test]
fn a_count_of_hooks_that_are_not_there_is_refused() {
    let packet = Packet::new(0).text(b"a").text(b"/a.ini").u64(0).u64(u64::MAX).done();
    assert_eq!(ToVassal::decode(&packet), None);
}

#[test]
fn the_largest_greeting_fits_and_keeps_its_options_whole() {
    let long = OsString::from_vec(vec![b'x'; OPTIONS_MAX - 16]);
    let as_vassal = vec![("12345678".into(), long)];
    assert!(Hello::options_fit(&as_vassal));
    assert!(!Hello::options_fit(as_vassal.iter().chain(&[(String::new(), OsString::new())])));
    let name = OsString::from_vec(vec![b'n'; TEXT_MAX]);
    let hello = ToVassal::Hello(Hello {
        path: name.clone().into(),
        name,
        namespaces: 0,
        as_vassal,
        is_program: false,
        is_transcript: false,
        replica: 1,
        is_one_of_several: false,
        is_check: false,
        kept: 0,
        owner: Some(FileOwner { uid: 1, gid: 1, initgroups: true }),
        cgroup: OsString::from_vec(vec![b'c'; TEXT_MAX]).into(),
        before: Vec::new(),
        behind: Vec::new(),
    });
    let packet = hello.encode();
    assert!(packet.len() <= PACKET_MAX, "{}", packet.len());
    assert_eq!(ToVassal::decode(&packet), Some(hello));
}

#[test]
fn packets_and_descriptors_cross_a_socket_pair() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    assert!(matches!(receive(&b), Ok(Received::Nothing)));
    let file = std::fs::File::open("/dev/null").unwrap().into();
    send(&a, &ToVassal::Stop.encode(), Some(&file)).unwrap();
    let Ok(Received::Packet(packet, Some(_))) = receive(&b) else { panic!("no packet with a descriptor") };
    assert_eq!(ToVassal::decode(&packet), Some(ToVassal::Stop));
    drop(a);
    assert!(matches!(receive(&b), Ok(Received::Closed)));
}

#[test]
fn last_words_arrive_although_ours_were_not_read() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    send(&a, &ToVassal::Stop.encode(), None).unwrap();
    send(&b, &FromVassal::Running.encode(), None).unwrap();
    drop(b);
    let Ok(Received::Packet(packet, None)) = receive(&a) else { panic!("no packet") };
    assert_eq!(FromVassal::decode(&packet), Some(FromVassal::Running));
    assert!(matches!(receive(&a), Ok(Received::Closed)));
}
