//! What an instance knows of its replicas, and what the emperor is told of them.

use std::time::Duration;

use vassal::protocol::{FileOwner, FromVassal, Hello, Replication, ToVassal};

use crate::common::link::{Link, hello};
use crate::common::sandboxed;

/// The file of a vassal with replicas, and what the emperor is told of it.
const FILE: &str = "replicas = 3\nready-after = 20ms\nready-timeout = 7s\ncommand = sleep 1000";
const TOLD: Replication = Replication {
    replicas: 3,
    is_rolling: true,
    ready_after: Duration::from_millis(20),
    ready_timeout: Duration::from_secs(7),
    says_ready: false,
};

#[test]
fn each_instance_has_its_number_in_the_file() {
    sandboxed(|sandbox| {
        for replica in [1, 7] {
            let hello = Hello { replica, ..hello() };
            let lines =
                "set-placeholder = port=%(replica + 8000)\ncommand = echo number %(replica) at %(port)";
            let (_link, mut vassal) = Link::greet(sandbox, hello, lines);
            assert_eq!(vassal.wait(), 0);
            vassal.wait_for(&format!("number {replica} at 800{replica}"));
        }
    });
}

#[test]
fn the_emperor_is_told_of_replicas_before_the_app_runs() {
    sandboxed(|sandbox| {
        let (link, _vassal) = Link::start(sandbox, FILE);
        let told = |next| matches!(next, FromVassal::Replication(_) | FromVassal::Running).then_some(next);
        assert_eq!(link.next(told), FromVassal::Replication(TOLD));
        link.wait_for(&FromVassal::Running);
    });
}

#[test]
fn the_emperor_of_tyrants_is_told_of_replicas_too() {
    sandboxed(|sandbox| {
        let owner = Some(FileOwner { uid: 1001, gid: 1001, initgroups: false });
        let (link, mut vassal) = Link::greet(sandbox, Hello { owner, ..hello() }, FILE);
        let told = |next| matches!(next, FromVassal::Replication(_) | FromVassal::Running).then_some(next);
        assert_eq!(link.next(told), FromVassal::Replication(TOLD));
        link.wait_for(&FromVassal::Running);
        link.send(&ToVassal::Stop);
        assert_eq!(vassal.wait(), 143);
    });
}

#[test]
fn the_emperor_is_told_of_what_a_reload_changes_about_replicas() {
    sandboxed(|sandbox| {
        let plain = "command = sleep 1000";
        let (link, _vassal) = Link::start(sandbox, plain);
        let first = link
            .next(|next| matches!(next, FromVassal::Replication(_) | FromVassal::Running).then_some(next));
        assert_eq!(first, FromVassal::Running, "one replica is nothing to be told of");
        let told = |next| match next {
            FromVassal::Replication(told) => Some(Some(told)),
            FromVassal::Reloaded => Some(None),
            _ => None,
        };
        let rolling = Replication { is_rolling: true, ..Replication::default() };
        for (lines, expected) in [
            (plain.to_owned(), None),
            (FILE.to_owned(), Some(TOLD)),
            (FILE.to_owned(), Some(TOLD)),
            (
                FILE.replace("replicas = 3", "reload-strategy = rolling"),
                Some(Replication { replicas: 1, ..TOLD }),
            ),
            (format!("reload-strategy = rolling\n{plain}"), Some(rolling)),
            (plain.to_owned(), Some(Replication::default())),
            (plain.to_owned(), None),
        ] {
            link.reload(&lines);
            assert_eq!(link.next(told), expected, "{lines}");
            if expected.is_some() {
                link.wait_for(&FromVassal::Reloaded);
            }
        }
    });
}

#[test]
fn without_an_emperor_there_is_one_instance_which_is_told() {
    sandboxed(|sandbox| {
        let mut vassal = sandbox.vassal_init("vassal", "replicas = 2\ncommand = echo number %(replica)");
        assert_eq!(vassal.wait(), 0);
        vassal.wait_for("number 1");
        vassal.wait_for(
            "vassal.ini:2:12: warning: only an emperor runs several instances: this is the only one",
        );
    });
}
