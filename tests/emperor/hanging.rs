//! Files of vassals on a filesystem that hangs: who is not concerned does not notice.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use crate::common::process;
use crate::common::{Daemon, cow, sandboxed, until};
use rustix::process::Signal;

/// A vassal that runs until it is asked to stop.
const STEADY: &str = "command = sleep 1000";

/// A directory of a bindfs that can be stopped.
struct Remote {
    path: &'static str,
    daemon: Child,
}

impl Remote {
    /// Mounts a copy of a directory, of which nothing is remembered.
    fn mount() -> Self {
        let path = "/run/remote";
        for directory in ["/run/real", path] {
            fs::create_dir_all(directory).unwrap();
        }
        let forget = "attr_timeout=0,entry_timeout=0,negative_timeout=0";
        let daemon = Command::new("bindfs").args(["-f", "-o", forget, "/run/real", path]).spawn().unwrap();
        until("it is mounted", || cow::mounts().contains(" /run/remote "));
        Self { path, daemon }
    }

    /// Writes a file behind the back of the daemon.
    fn write(&self, name: &str, text: &str) {
        fs::write(Path::new("/run/real").join(name), text).unwrap();
    }

    fn hang(&self) {
        process::signal(self.daemon.id() as i32, Signal::STOP);
    }

    fn answer(&self) {
        process::signal(self.daemon.id() as i32, Signal::CONT);
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Whoever waits for it could not end.
        self.answer();
        let _ = Command::new("umount").args(["-l", self.path]).status();
        let _ = self.daemon.wait();
    }
}

/// Ends an emperor; the daemon of the directory goes only when no vassal has its mount any more.
fn end(mut emperor: Daemon) {
    emperor.signal(Signal::TERM);
    assert_eq!(emperor.wait(), 0);
}

#[test]
fn an_include_that_hangs_refuses_the_reload_and_the_app_goes_on() {
    sandboxed(|sandbox| {
        let remote = Remote::mount();
        remote.write("more.ini", "[uwsgi]\nenv = A=1\n");
        let lines = format!("include = {}/more.ini\n{STEADY}", remote.path);
        sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "app");
        remote.hang();
        sandbox.vassal("app", &lines);
        let line = emperor.wait_for("emperor: app: reload refused: reading the new file takes too long: ");
        assert!(line.contains(&format!("it looks at {}/more.ini, which is", remote.path)), "{line}");
        assert!(line.ends_with("; the app goes on as it was"), "{line}");
        assert!(process::read(init).is_some());
        // Once it answers, what was asked for is done.
        remote.answer();
        emperor.wait_for("emperor: app: needs a fresh jail: ");
        assert_ne!(emperor.wait_running(2, "app"), init);
        end(emperor);
    });
}
