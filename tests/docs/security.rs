//! The host for strangers of docs/security.md: its files are tried as they are there, against a tenant who
//! wants more.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use crate::common::{Sandbox, eventually, run, sandboxed, until};

/// What is not tried: it needs a cgroup of the machine's.
const OF_CGROUPS: [&str; 4] = ["emperor-cgroup = ", "memory-max = ", "cpu-max = ", "pids-max = "];

/// The blocks of the document that begin with `[uwsgi]`, without [`OF_CGROUPS`].
fn blocks() -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md")).unwrap();
    let mut blocks: Vec<String> = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("    ")) {
        match (line, blocks.last_mut()) {
            ("[uwsgi]", _) => blocks.push("[uwsgi]\n".to_owned()),
            (line, Some(block)) if !OF_CGROUPS.iter().any(|key| line.starts_with(key)) => {
                *block += &format!("{line}\n");
            }
            _ => {}
        }
    }
    blocks
}

/// A directory of a user's, with a vassal file.
fn tenant(name: &str, lines: &str) {
    tenant_with(name, "shop", lines);
}

/// The same, with a file of this name.
fn tenant_with(name: &str, vassal: &str, lines: &str) {
    let uid: u32 = run("id", &["-u", name]).trim().parse().unwrap();
    let home = Path::new("/run/home").join(name);
    fs::create_dir_all(home.join("vassals")).unwrap();
    let file = home.join("vassals").join(format!("{vassal}.ini"));
    fs::write(&file, format!("[uwsgi]\n{lines}\n")).unwrap();
    for path in [&home, &home.join("vassals"), &file] {
        chown(path, Some(uid), Some(uid)).unwrap();
    }
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
}

fn start(sandbox: &Sandbox) -> crate::common::Daemon {
    let files = blocks();
    assert_eq!(files.len(), 2, "the emperor's file and the policy");
    assert!(files[0].contains("\nemperor-tyrant-max = 20\n"), "{}", files[0]);
    assert!(files[0].contains("glob:///home/"), "{}", files[0]);
    fs::write("/etc/uwsgi/strangers.ini", files[0].replace("glob:///home/", "glob:///run/home/")).unwrap();
    fs::write("/etc/uwsgi/policy.ini", &files[1]).unwrap();
    let mut command = sandbox.program("emperor");
    command.arg("/etc/uwsgi/strangers.ini").env("SECRET", "of the starter's");
    sandbox.start("emperor", command)
}

#[test]
fn a_stranger_on_a_host_for_strangers_gets_no_more_than_the_document_says() {
    sandboxed(|sandbox| {
        sandbox.append_to("/etc/passwd", "eve:x:4242:4242::/run/home/eve:/bin/sh\n");
        sandbox.append_to("/etc/group", "eve:x:4242:\n");
        let look = "id -u; ulimit -n; grep -E \"^(NoNewPrivs|Seccomp|CapEff):\" /proc/self/status; \
                    echo $SECRET; cat /proc/[0-9]*/cmdline | grep -ac \"1[0]00\"; \
                    unshare -Ur true 2>/dev/null || echo no-namespace";
        let more = "no-new-privs = false\nconfine-hooks = false\nseccomp = none\nclean-env = false\n\
                    limit-nofile = 4096\nuid = root\n";
        tenant("user001", "command = sleep 1000");
        let script = "/run/scratch/look";
        let lines = format!(
            "exec-as-user = sh {script} hook\ncommand = sh -c 'sh {script} app; exec sleep 2000'\n{more}"
        );
        let out = format!(
            "#!/bin/sh\n({look}) > /run/home/eve/$1.draft 2>&1\nmv /run/home/eve/$1.draft /run/home/eve/$1\n"
        );
        fs::write(script, out).unwrap();
        let emperor = start(sandbox);
        emperor.wait_running(1, "user001/vassals/shop");
        tenant("eve", &lines.replace("uid = root\n", ""));
        let read = |name: &str| {
            let path = format!("/run/home/eve/{name}");
            eventually(name, || fs::read_to_string(&path).ok()).lines().map(str::to_owned).collect::<Vec<_>>()
        };
        for name in ["hook", "app"] {
            let seen = read(name);
            let expected = ["4242", "1024", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", ""];
            assert_eq!(seen[..6], expected, "{name}: {seen:?}");
            assert_eq!(seen[6], "0", "{name} sees the other tenant's app: {seen:?}");
            assert_eq!(seen[7], "no-namespace", "{name}: {seen:?}");
        }
        // Root is refused, and nobody else notices.
        tenant("eve", &lines);
        emperor.wait_for("emperor-tyrant runs this vassal as its file's owner: user 4242");
        let status = run(sandbox.program("emperor").get_program().to_str().unwrap(), &["status"]);
        let line = status.lines().find(|line| line.contains("user001")).expect("the other tenant's");
        assert!(line.contains("running") && !line.contains("restarts"), "{status}");
        emperor.stop();
    });
}

#[test]
fn a_stranger_with_many_files_gets_as_many_vassals_as_the_document_says() {
    sandboxed(|sandbox| {
        for number in 1..=22 {
            tenant_with("user001", &format!("shop{number}"), "command = sleep 1000");
        }
        let emperor = start(sandbox);
        emperor.wait_for(" has 20 vassals (emperor-tyrant-max)");
        let status = || run(sandbox.program("emperor").get_program().to_str().unwrap(), &["status"]);
        let has = |text: &str| status().contains(text);
        until("20 run, and 2 wait", || {
            has("emperor-tyrant-max allows: 2 files more") && status().matches("  running  ").count() == 20
        });
        emperor.stop();
    });
}
