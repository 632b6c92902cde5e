//! What operating.md says of logs: logrotate with its file loses no line, and an app that fails is told of as
//! shown there.

use std::fs;

use super::blocks::indented;
use super::walk::document;
use crate::common::{run, sandboxed, until};

/// The block of the page that has this in it.
fn block(part: &str) -> String {
    let blocks = indented(&document("docs/operating.md"));
    blocks.into_iter().find(|block| block.contains(part)).unwrap_or_else(|| panic!("no block has '{part}'"))
}

#[test]
fn logrotate_with_the_file_of_the_page_loses_no_line() {
    sandboxed(|sandbox| {
        sandbox.mount(&["-t", "tmpfs", "none"], "/var/log");
        fs::create_dir("/var/log/vassals").unwrap();
        let count = r#"command = sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.002; done'"#;
        sandbox.vassal("app", &format!("uid = nobody\n{count}"));
        let emperor = sandbox.emperor(&["--log-dir", "/var/log/vassals"]);
        let log = || fs::read_to_string("/var/log/vassals/app.log").unwrap_or_default();
        let file = sandbox.file("logrotate", &block("rotate 14"));
        let state = sandbox.path("state");
        for _ in 0..5 {
            until("the app has written", || log().lines().count() > 10);
            let force = ["--force", "--state", state.to_str().unwrap(), file.to_str().unwrap()];
            run("logrotate", &force);
        }
        until("the app has written once more", || log().lines().count() > 10);
        emperor.stop();
        let all = "cd /var/log/vassals; for n in 5 4 3 2 1; do zcat app.log.$n.gz; done; cat app.log";
        let all = run("sh", &["-c", all]);
        let numbers: Vec<u32> = all.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>());
    });
}

#[test]
fn logrotate_with_the_file_of_the_page_begins_the_emperors_log_anew() {
    sandboxed(|sandbox| {
        sandbox.mount(&["-t", "tmpfs", "-o", "mode=755", "none"], "/var/log");
        sandbox.vassal("app", "command = sh -c 'while :; do echo tick; sleep 0.002; done'");
        let log = || fs::read_to_string("/var/log/emperor.log").unwrap_or_default();
        let emperor = sandbox.emperor(&["--logto", "/var/log/emperor.log"]);
        until("both have written", || {
            log().contains("emperor: app: running after ") && log().contains("\ntick\n")
        });
        let (file, state) = (sandbox.file("logrotate", &block("copytruncate")), sandbox.path("state"));
        run("logrotate", &["--force", "--state", state.to_str().unwrap(), file.to_str().unwrap()]);
        assert!(run("zcat", &["/var/log/emperor.log.1.gz"]).contains("emperor: app: running after "));
        sandbox.vassal("next", "command = sleep 1000");
        until("both go on", || log().contains("emperor: next: running after ") && log().contains("\ntick\n"));
        assert!(!log().contains("emperor: app: running after "), "it begins anew");
        emperor.stop();
    });
}

#[test]
fn an_app_that_fails_is_told_of_as_on_the_page() {
    sandboxed(|sandbox| {
        let line = r#"command = python3 -c "import os; os.environ['DATABASE_URL']""#;
        sandbox.vassal("app001", &format!("standard-output = file:/run/scratch/out\n{line}"));
        let emperor = sandbox.emperor(&[]);
        assert_eq!(emperor.wait_for("vassal-init[app001]: app exited"), block("its last line").trim());
        emperor.stop();
    });
}
