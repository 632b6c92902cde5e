//! What an emperor is told of a vassal that does not even start.

use std::os::fd::AsRawFd;

use rustix::io::FdFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use vassal::protocol::{self, ExitReason, FromVassal, LINK_VARIABLE, Received, SetupFailure, ToVassal};
use vassal::sys::memfd::{self, Use};

use crate::common::{eventually, sandboxed};

#[test]
fn a_vassal_that_does_not_understand_its_emperor_says_why_over_the_link() {
    sandboxed(|sandbox| {
        let file = memfd::sealed("vassal", b"[uwsgi]\ncommand = true\n", Use::Read).unwrap();
        for (message, has_file, why) in [
            (ToVassal::Stop.encode(), true, "its first message is no greeting of this version"),
            (b"\xff".to_vec(), true, "its first message is no greeting of this version"),
            (ToVassal::Stop.encode(), false, "its first message carries no file"),
        ] {
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
            protocol::send(&ours, &message, has_file.then_some(&file)).unwrap();
            rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).unwrap();
            let mut command = sandbox.program("vassal-init");
            command.env(LINK_VARIABLE, theirs.as_raw_fd().to_string());
            let mut vassal = sandbox.start("vassal", command);
            drop(theirs);
            let told = eventually("the reason", || match protocol::receive(&ours) {
                Ok(Received::Packet(packet, _)) => FromVassal::decode(&packet),
                _ => None,
            });
            let FromVassal::Exiting(ExitReason::Setup(SetupFailure { phase, what, .. })) = told else {
                panic!("{told:?}")
            };
            assert_eq!(phase, "greeting");
            assert!(what.contains(why), "{what}");
            assert_eq!(vassal.wait(), 71);
            vassal.wait_for(why);
            std::fs::remove_file(sandbox.path("vassal.log")).unwrap();
        }
    });
}
