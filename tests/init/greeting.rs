//! What an emperor is told of a vassal that does not even start.

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use vassal::protocol::{self, ExitReason, FromVassal, LINK_VARIABLE, Received, SetupFailure, ToVassal};
use vassal::sys::memfd::{self, Use};

use crate::common::link::hello;
use crate::common::{Sandbox, eventually, sandboxed};

/// Starts `vassal-init` with a link that this message waits in, and returns its end.
fn told(sandbox: &Sandbox, mut command: Command, message: &[u8], file: Option<&OwnedFd>) -> SetupFailure {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
    protocol::send(&ours, message, file).unwrap();
    rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
    command.env(LINK_VARIABLE, theirs.as_raw_fd().to_string());
    let mut vassal = sandbox.start("vassal", command);
    drop(theirs);
    let told = eventually("the reason", || match protocol::receive(&ours) {
        Ok(Received::Packet(packet, _)) => FromVassal::decode(&packet),
        _ => None,
    });
    assert_eq!(vassal.wait(), 71);
    let FromVassal::Exiting(ExitReason::Setup(failure)) = told else { panic!("{told:?}") };
    vassal.wait_for(&failure.what);
    std::fs::remove_file(sandbox.path("vassal.log")).unwrap();
    failure
}

#[test]
fn a_vassal_that_does_not_understand_its_emperor_says_why_over_the_link() {
    sandboxed(|sandbox| {
        let file = memfd::sealed("vassal", b"[uwsgi]\ncommand = true\n", Use::Read).unwrap();
        for (message, has_file, why) in [
            (ToVassal::Stop.encode(), true, "its first message is no greeting of this version"),
            (b"\xff".to_vec(), true, "its first message is no greeting of this version"),
            (ToVassal::Stop.encode(), false, "its first message carries no file"),
        ] {
            let command = sandbox.program("vassal-init");
            let SetupFailure { phase, what, .. } =
                told(sandbox, command, &message, has_file.then_some(&file));
            assert_eq!(phase, "greeting");
            assert!(what.contains(why), "{what}");
        }
    });
}

#[test]
fn a_vassal_that_gets_no_namespaces_says_why_over_the_link() {
    sandboxed(|sandbox| {
        let text = b"[uwsgi]\nunshare = net\ncommand = true\n";
        let file = memfd::sealed("vassal", text, Use::Read).unwrap();
        let hello = ToVassal::Hello(hello());
        let user = ["setpriv", "--reuid", "9000", "--regid", "9000", "--clear-groups"];
        let command = sandbox.wrapped(&user, "vassal-init");
        let SetupFailure { phase, what, .. } = told(sandbox, command, &hello.encode(), Some(&file));
        assert_eq!(phase, "unshare");
        assert_eq!(what, "create the namespaces: Operation not permitted (EPERM)");
    });
}
