//! The test as the emperor of a vassal, over a link that it holds itself.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use vassal::protocol::{self, FromVassal, Hello, LINK_VARIABLE, MountReport, Received, ToVassal};
use vassal::sys::memfd::{self, Use};

use super::{Daemon, Sandbox, eventually};

/// The emperor's end.
pub struct Link(OwnedFd);

/// A greeting without anything in particular.
pub fn hello() -> Hello {
    Hello {
        name: "a".into(),
        path: "/a.ini".into(),
        namespaces: 0,
        as_vassal: Vec::new(),
        is_program: false,
        is_transcript: false,
        replica: 1,
        is_one_of_several: false,
        is_check: false,
        kept: 0,
        owner: None,
        cgroup: Default::default(),
        before: Vec::new(),
        behind: Vec::new(),
    }
}

/// The content of a vassal's file.
fn file(lines: &str) -> OwnedFd {
    let text = format!("[uwsgi]\n{lines}\n");
    memfd::sealed("vassal", text.as_bytes(), Use::Read).unwrap()
}

impl Link {
    /// Starts `vassal-init` as the emperor does; it makes its own namespaces.
    pub fn start(sandbox: &Sandbox, lines: &str) -> (Self, Daemon) {
        Self::greet(sandbox, hello(), &format!("unshare = fs,pid\n{lines}"))
    }

    /// The same with another greeting, in namespaces that the file tells of.
    pub fn greet(sandbox: &Sandbox, hello: Hello, lines: &str) -> (Self, Daemon) {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        protocol::send(&ours, &ToVassal::Hello(hello).encode(), Some(&file(lines))).unwrap();
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
        let mut command = sandbox.program("vassal-init");
        command.env(LINK_VARIABLE, theirs.as_raw_fd().to_string());
        (Self(ours), sandbox.start("vassal", command))
    }

    /// Sends what comes without a file.
    pub fn send(&self, message: &ToVassal) {
        protocol::send(&self.0, &message.encode(), None).unwrap();
    }

    /// Tells of a new content of the file, after [`Link::start`].
    pub fn reload(&self, lines: &str) {
        let file = file(&format!("unshare = fs,pid\n{lines}"));
        protocol::send(&self.0, &ToVassal::Reload.encode(), Some(&file)).unwrap();
    }

    /// The next message.
    pub fn message(&self) -> FromVassal {
        self.next(Some)
    }

    /// The next message of this kind; those before it are passed over.
    pub fn next<T>(&self, wanted: impl Fn(FromVassal) -> Option<T>) -> T {
        eventually("a message of the vassal", || match protocol::receive(&self.0) {
            Ok(Received::Packet(packet, _)) => wanted(FromVassal::decode(&packet).expect("a message")),
            _ => None,
        })
    }

    /// Waits for this message.
    pub fn wait_for(&self, message: &FromVassal) {
        self.next(|next| (next == *message).then_some(()));
    }

    /// The one checked mountpoint.
    pub fn report(&self) -> MountReport {
        self.send(&ToVassal::Mountpoints);
        let reports = self.next(|message| match message {
            FromVassal::Mountpoints(reports) => Some(reports),
            _ => None,
        });
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        report.clone()
    }
}
