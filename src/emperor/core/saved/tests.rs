//! Everything that is written can be read again, and other bytes are refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::decode::decode;
use super::encode::encode;
use super::*;
use crate::config::plan::Address;
use crate::emperor::core::backoff::Backoff;
use crate::emperor::core::file_version::FileVersion;
use crate::emperor::core::history::{Ended, Failures, History, Past, Recent, Runs};
use crate::emperor::core::instance::{Ending, Instance, ProcessFacts, Said, Transcript, UsedFile};
use crate::emperor::core::machine::{End, Machine, State, Then};
use crate::emperor::core::mountpoints::{Mountpoint, Mountpoints};
use crate::emperor::core::rare::Rare;
use crate::emperor::core::text::hash;
use crate::emperor::core::vassal::Proven;
use crate::place::Place;
use crate::protocol::{self, ExitReason, MountReport, Replication, WaitStatus};

fn socket_id(number: i32, is_on_demand: bool) -> SocketId {
    let file = is_on_demand.then_some(FileId { device: 8, inode: number as u64 });
    SocketId { place: Place::File(format!("/run/{number} 1:2").into()), file, is_on_demand }
}

/// A vassal in each state, with other values in each vassal.
fn saved(now: Instant) -> Saved {
    let [past, future] = [now - Duration::from_nanos(5_000_000_001), now + Duration::from_secs(77)];
    let mut states = vec![
        State::Idle,
        State::Starting { since: past, remind_at: future },
        State::Running { since: past },
        State::Backoff { until: future },
        State::Invalid { until: past },
        State::Held,
        State::Waiting,
    ];
    for (settled, again) in [(false, false), (true, false), (false, true), (true, true)] {
        states.push(State::Reloading { since: past, answer_by: future, settled, again });
    }
    for then in [Then::Respawn, Then::Again, Then::Backoff, Then::Nothing, Then::Hold, Then::Rest] {
        for end in [End::Asked, End::Announced, End::Killed] {
            states.push(State::Stopping { then, kill_at: future, end });
        }
    }
    let listener = SavedListener {
        service: 2,
        socket: 9,
        name: b"[::1]:1".to_vec(),
        file: Some(FileId { device: 8, inode: 77 }),
    };
    let vassals = states.into_iter().enumerate();
    Saved {
        origin: SavedOrigin { signal_mask: 5, nofile_soft: Some(1024), nofile_hard: None },
        began: past,
        client: Some(3),
        pid_file: b"/run/pid".to_vec(),
        basis: SavedBasis {
            settings: vec![setting("emperor", Some("/v")), setting("strict", None)],
            cwd: "/w".into(),
            vassal_init: 12,
            null: 13,
        },
        listeners: vec![listener],
        vassals: vassals.map(|(index, state)| vassal(index, state, now, past, future)).collect(),
    }
}

fn setting(key: &str, value: Option<&str>) -> PlainSetting {
    let (key, value) = (key.into(), value.map(Into::into));
    PlainSetting { key, value, file: "/etc/e.ini".into(), line: 2, column: 77 }
}

fn vassal(index: usize, state: State, now: Instant, past: Instant, future: Instant) -> SavedVassal {
    let owner = Owner { uid: 1000, gid: u32::MAX };
    let delay = Duration::from_millis(1500);
    let machine = Machine::resume(state, Backoff::new(delay, delay), Some(future));
    // Neither path can be recovered from its text.
    let path = [&b"/run/caf\xe9 y"[..], b"relative"][index % 2];
    let path = || OsStr::from_bytes(path).into();
    let on_demand = index.is_multiple_of(3).then(|| Address::file(path()));
    let mountpoint = |number: usize| Mountpoint {
        report: MountReport::sample(&format!("/{number}"), 2, "hung"),
        before: number as u64,
    };
    let has_process = index.is_multiple_of(2);
    let replication = Replication {
        replicas: 1 + index as u16,
        is_rolling: has_process,
        ready_after: Duration::from_secs(7),
        ready_timeout: delay,
        says_ready: index.is_multiple_of(3),
    };
    let facts = ProcessFacts {
        pid: 42,
        owner,
        is_linked: index.is_multiple_of(4),
        born: past,
        running: None,
        asked_to_reload: Some(now),
        ending: rare(
            index,
            Ending {
                asked_to_stop: None,
                killed: Some(future),
                condemned: Some("c".to_owned()),
                exit_reason: Some(ExitReason::App(WaitStatus::Signaled(9))),
            },
        ),
        said: rare(
            index,
            Said {
                ready: None,
                loyal: Some(past),
                heartbeat: None,
                status: "s".to_owned(),
                unready: has_process.then(|| "why".into()),
            },
        ),
        is_half: true,
        wait: None,
        has_ended: false,
        replication: has_process.then(|| Box::new(replication)),
        file: UsedFile {
            text: Some(u64::MAX),
            modified: -7,
            owner: index.is_multiple_of(5).then_some(owner),
        },
        sent: index.is_multiple_of(3).then(|| Box::new(UsedFile { text: None, modified: 77, owner: None })),
        transcript: index.is_multiple_of(4).then(|| Box::new(Transcript(b"a\xff".as_slice().into()))),
    };
    SavedVassal {
        file: Rc::new(VassalFile::new(format!("/v/\n{index}.ini").into(), 3)),
        vassal: Box::new(Vassal {
            file_version: FileVersion {
                modified: -1,
                modified_nanos: 2,
                device: 3,
                inode: u64::MAX,
                size: index as u64,
                owner: index.is_multiple_of(5).then_some(owner),
            },
            is_unclaimed: true,
            owner: index.is_multiple_of(5).then_some(owner.uid),
            on_demand: on_demand.map(Box::new),
            is_asking: false,
            is_comparing: false,
            refused: has_process.then(|| "no".to_owned()),
            is_roll: has_process,
            proven: has_process.then(|| {
                let text = b"\xfft".as_slice().into();
                let file = UsedFile { text: None, modified: 7, owner: Some(Owner { uid: 1, gid: 2 }) };
                Box::new(Proven { text, owner, file, is_of_before: true })
            }),
            announces: has_process,
            replication,
            instances: vec![
                Instance {
                    number: 1 + index as u16,
                    is_old: index.is_multiple_of(3),
                    is_on_trial: index.is_multiple_of(4),
                    is_unproven: index.is_multiple_of(2),
                    is_unready: index.is_multiple_of(3),
                    is_refused: false,
                    machine,
                    is_late: false,
                    app: Some(5),
                    process: has_process.then_some(facts),
                    check: None,
                    down_since: None,
                    history: History {
                        instances: 7,
                        reloads: 8,
                        runs: Some(Runs { first: past, last: now }),
                        past: rare(index, ends(has_process, past, future)),
                        output: "file:/a\njournal".to_owned(),
                        warnings: "1 warning".to_owned(),
                    },
                    mountpoints: Mountpoints((0..index % 3).map(mountpoint).collect()),
                },
                Instance::new(100, Backoff::new(delay, delay)),
            ],
        }),
        processes: vec![
            has_process.then(|| SavedProcess {
                link: index.is_multiple_of(4).then_some(6),
                owned: true,
                cgroup: b"/g/v-x".to_vec(),
            }),
            None,
        ],
        sockets: SavedSockets {
            sockets: (0..index as i32 % 3)
                .map(|socket| SavedSocket { id: socket_id(socket, has_process), socket })
                .collect(),
            owner,
        },
    }
}

/// Facts that every third vassal does not have.
fn rare<T>(index: usize, facts: T) -> Rare<T> {
    Rare((!index.is_multiple_of(3)).then(|| Box::new(facts)))
}

fn ends(has_failed: bool, past: Instant, future: Instant) -> Past {
    let wait = Duration::from_millis(1500);
    Past {
        failures: has_failed.then_some(Failures { count: 3, first: past, last: future, wait }),
        last_end: Some("stopped".to_owned()),
        ends: vec![Ended {
            at: past,
            date: Duration::from_millis(77),
            why: "stopped".to_owned(),
            is_asked: has_failed,
        }],
        recent: Recent { since: Some(past), counts: [1, 2, 3, 4, 5, 6] },
    }
}

#[test]
fn everything_is_read_as_it_was_written() {
    let now = Instant::now();
    let saved = saved(now);
    let bytes = encode(&saved, now);
    assert_eq!(decode(&bytes, now).as_ref(), Some(&saved));
    // Times keep their distance from now, whenever that is.
    let later = now + Duration::from_secs(1);
    let moved = decode(&bytes, later).unwrap();
    assert_eq!(moved.began, saved.began + Duration::from_secs(1));
}

#[test]
fn a_program_of_another_format_does_not_take_this_one_for_its_own() {
    let now = Instant::now();
    let bytes = encode(&saved(now), now);
    let found = (protocol::VERSION, VERSION, hash(bytes.into_iter()));
    let what_to_do = "the format has changed: raise VERSION, or that of the protocol if it is a message's; \
                      or the test saves something else. Then write here what is found";
    assert_eq!(found, (16, 26, 15240227802979729533), "{what_to_do}");
}

#[test]
fn cut_padded_or_foreign_bytes_are_refused() {
    let now = Instant::now();
    let bytes = encode(&saved(now), now);
    for end in (0..bytes.len()).step_by(7) {
        assert_eq!(decode(&bytes[..end], now), None, "{end}");
    }
    assert_eq!(decode(&[&bytes[..], b"\0"].concat(), now), None);
    for index in [0, 1] {
        let mut other = bytes.clone();
        other[index] += 1;
        assert_eq!(decode(&other, now), None);
    }
}

#[test]
fn no_byte_that_is_changed_has_the_reader_panic() {
    let now = Instant::now();
    let mut saved = saved(now);
    saved.vassals.truncate(8);
    let bytes = encode(&saved, now);
    for index in 2..bytes.len() {
        for bits in [0x01, 0x80, 0xff] {
            let mut other = bytes.clone();
            other[index] ^= bits;
            drop(decode(&other, now));
        }
    }
}

#[test]
fn the_descriptors_of_all_are_kept() {
    let now = Instant::now();
    let mut saved = saved(now);
    saved.vassals.truncate(5);
    let numbers = |saved: &mut Saved| {
        let mut all = Vec::new();
        saved.each_descriptor(&mut |number| all.push(*number));
        all
    };
    assert_eq!(numbers(&mut saved), [12, 13, 6, 0, 0, 1, 6, 0, 9, 3]);
    saved.forget_lost(|number| number != 6 && number != 9);
    assert_eq!(numbers(&mut saved), [12, 13, -1, 0, 0, 1, -1, 0, -1, 3]);
}
