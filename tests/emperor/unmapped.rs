//! Whose files are in a user namespace, where everybody who is not mapped has the same number.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use crate::common::sandbox::VASSALS;
use crate::common::{Daemon, Sandbox, process, run, sandboxed, until};
use crate::rootless::{AS_USER, CLONE, emperor, user, vassal_init};

/// A local user who has nothing to do with the emperor.
const STRANGER: u32 = 7000;

/// What a local user has laid out, and what root of the host has.
fn lay_out(sandbox: &Sandbox) {
    user(sandbox);
    sandbox.grant_ids("user001:300000:65536\nroot:1000000:655360\n");
    for directory in ["/run/goal", "/run/theirs/jail/etc", "/run/jail/etc"] {
        fs::create_dir_all(directory).unwrap();
    }
    for jail in ["/run/theirs/jail", "/run/jail"] {
        fs::write(format!("{jail}/etc/passwd"), "other:x:5:5::/:/bin/sh\n").unwrap();
        fs::write(format!("{jail}/etc/group"), "other:x:5:\n").unwrap();
    }
    fs::write("/run/goal/file", "as it was\n").unwrap();
    fs::set_permissions("/run/goal/file", fs::Permissions::from_mode(0o666)).unwrap();
    fs::hard_link("/run/goal/file", "/run/theirs/file").unwrap();
    for link in ["/run/way", "/run/theirs/way", "/run/scratch/way"] {
        symlink("/run/goal", link).unwrap();
    }
    for theirs in ["/run/theirs/way", "/run/scratch/way"] {
        lchown(theirs, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    chown("/run/theirs", Some(STRANGER), Some(STRANGER)).unwrap();
    run("chown", &["-R", &format!("{STRANGER}:{STRANGER}"), "/run/theirs/jail"]);
}

/// The lines of a vassal that goes where it says, and what is said against it.
fn refusals() -> Vec<(String, &'static str)> {
    let ways = [
        ("/run/theirs/way", "is a symbolic link of user 7000, where user 7000 can change the way"),
        ("/run/scratch/way", "is a symbolic link of user 7000, where others can change the way"),
    ];
    let mut all = Vec::new();
    for (way, says) in ways {
        for lines in [
            format!("hook-pre-jail = callret:chdir {way}"),
            format!("mount-as-root = none {way} /mnt bind"),
            format!("mount-as-root = tmpfs none {way}"),
            format!("hook-as-root = write:{way}/new text"),
            format!("chroot = {way}"),
            // After the privilege drop.
            format!("hook-as-user = fuse:{way} true {{}}"),
        ] {
            all.push((lines, says));
        }
    }
    let change = "hook-as-root = write:/run/theirs/file text";
    all.push((change.into(), "it has 2 names, in a directory that user 7000 can change"));
    let says = "user 'other': is 5 in /etc/passwd of the jail, which others than root can change";
    all.push(("chroot = /run/theirs/jail\nuid = other".into(), says));
    all
}

/// The same with what root of the host has.
fn allowed() -> Vec<String> {
    let lines = [
        "hook-pre-jail = callret:chdir /run/way",
        "mount-as-root = none /run/way /mnt bind",
        "mount-as-root = tmpfs none /run/way",
        "hook-as-user = fuse:/run/way true {}",
        "hook-as-root = write:/run/way/file as it was",
    ];
    lines.map(str::to_owned).into()
}

fn write_vassals(sandbox: &Sandbox) {
    for (number, (lines, _)) in refusals().into_iter().enumerate() {
        let user = if lines.contains("uid = ") { "" } else { "uid = user001\n" };
        sandbox.vassal(&format!("no{number}"), &format!("{user}{lines}\ncommand = sleep 1001"));
    }
    for (number, lines) in allowed().into_iter().enumerate() {
        sandbox.vassal(&format!("yes{number}"), &format!("uid = user001\n{lines}\ncommand = sleep 1001"));
    }
    // In root's own tree root names users; this one lacks a program.
    sandbox.vassal("jail", "uid = other\nchroot = /run/jail\ncommand = sleep 1001");
}

fn check(emperor: &Daemon) {
    for (number, (lines, says)) in refusals().into_iter().enumerate() {
        let line = emperor.wait_for(&format!("emperor: no{number}: setup failed in "));
        assert!(line.contains(says), "{lines}: {line}");
    }
    for number in 0..allowed().len() {
        emperor.wait_running(1, &format!("yes{number}"));
    }
    let line = emperor.wait_for("emperor: jail: ");
    let line = if line.contains("started") { emperor.wait_for_nth(2, "emperor: jail: ") } else { line };
    assert!(line.contains("execute sleep: No such file"), "{line}");
    assert_eq!(fs::read_to_string("/run/goal/file").unwrap().trim_end(), "as it was");
    assert_eq!(fs::read_dir("/run/goal").unwrap().count(), 1);
}

#[test]
fn to_a_users_emperor_no_other_user_of_the_machine_is_root() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("users beside") {
            return;
        }
        lay_out(sandbox);
        write_vassals(sandbox);
        let emperor = emperor(sandbox, &["--map-users=auto"]);
        check(&emperor);
        emperor.stop();
    });
}

#[test]
fn to_roots_emperor_with_shares_no_user_of_the_machine_is_root() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("users beside") {
            return;
        }
        lay_out(sandbox);
        write_vassals(sandbox);
        let emperor = sandbox.emperor(&[CLONE, "--map-users=auto"]);
        check(&emperor);
        emperor.stop();
    });
}

#[test]
fn to_a_vassal_in_a_user_namespace_of_its_own_no_other_user_is_root() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("users beside") {
            return;
        }
        lay_out(sandbox);
        for maps in [&[][..], &["--map-users=auto"]] {
            let run = |lines: &str| {
                let ini = sandbox.ini("vassal", &format!("{lines}\ncommand = true"));
                let words = [&["--unshare=user,fs,pid"], maps, &[ini.to_str().unwrap()]].concat();
                vassal_init(sandbox, &words)
            };
            for (lines, says) in refusals() {
                let user = if lines.contains("uid = ") { "" } else { "uid = root\n" };
                let (status, text) = run(&format!("{user}{lines}"));
                assert!(status == 71 && text.contains(says), "{lines}: {status}: {text}");
            }
            for lines in allowed() {
                let (status, text) = run(&format!("uid = root\n{lines}"));
                assert_eq!(status, 0, "{lines}: {text}");
            }
        }
    });
}

#[test]
fn where_nobody_outside_can_be_asked_nobody_without_a_number_is_trusted() {
    sandboxed(|sandbox| {
        lay_out_alone(sandbox);
        // As in a container that somebody else has put into a user namespace.
        let wrapper = [AS_USER, &["unshare", "--user", "--map-root-user", "--mount"]].concat();
        let mut command = sandbox.wrapped(&wrapper, "vassal-init");
        let ini = sandbox.ini("vassal", "uid = root\nhook-pre-jail = callret:chdir /run/way\ncommand = true");
        let output = command.arg(&ini).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let says = "/run/way is a symbolic link of user 65534, where user 65534 can change the way";
        assert!(output.status.code() == Some(71) && text.contains(says), "{text}");
        // The kernel's own links are nobody's. The root directory of a container is its own.
        let furnish = "mount -t tmpfs -o mode=755 sandbox /mnt && cd /mnt && for directory in /*; do \
            if [ -L $directory ]; then cp -P $directory .; elif [ $directory != /mnt ]; then \
            mkdir .$directory && mount --rbind $directory .$directory; fi; done; \
            exec chroot . \"$@\" >/run/scratch/out";
        let wrapper = [&wrapper[..], &["sh", "-c", furnish, "sh"]].concat();
        let mut command = sandbox.wrapped(&wrapper, "vassal-init");
        let lines = "uid = root\nhook-pre-jail = write:/proc/self/fd/1 told\ncommand = true";
        let output = command.arg(sandbox.ini("vassal", lines)).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_to_string(sandbox.path("out")).unwrap(), "told");
    });
}

/// A link of whoever is root here.
fn lay_out_alone(sandbox: &Sandbox) {
    user(sandbox);
    fs::create_dir("/run/goal").unwrap();
    symlink("/run/goal", "/run/way").unwrap();
}

#[test]
fn nobody_waits_outside_for_questions_that_cannot_come() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        sandbox.vassal("plain", "uid = user001\ncommand = sleep 1001");
        let emperor = emperor(sandbox, &["--map-users=auto"]);
        emperor.wait_running(1, "plain");
        until("nobody waits", || process::named("emperor-ids").is_empty());
        // Root of the namespace may mount later, and the question comes with it.
        sandbox.vassal("root", "uid = root\ncommand = sleep 1001");
        emperor.wait_running(1, "root");
        until("somebody waits", || process::named("emperor-ids").len() == 1);
        fs::remove_file(format!("{VASSALS}/root.ini")).unwrap();
        until("it has ended with the vassal", || process::named("emperor-ids").is_empty());
        emperor.stop();
    });
}
