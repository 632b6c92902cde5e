//! Who the app is, where it runs, and what it has from its starter.

use crate::common::{Daemon, Sandbox, run, sandboxed};

/// Groups of user001, by membership and otherwise, besides its own.
const GROUPS: &str =
    "staff1:x:5001:user001\nothers:x:5002:nobody\nstaff2:x:5003:nobody,user001\nextra:x:5004:\n";

/// Runs a vassal to its end and returns its log.
fn output(sandbox: &Sandbox, lines: &str) -> String {
    let mut vassal = sandbox.vassal_init("vassal", lines);
    assert_eq!(vassal.wait(), 0, "{lines}");

    vassal.log()
}

/// A field of /proc/self/status as the app prints it, its numbers in order.
fn numbers(log: &str, name: &str) -> Vec<u32> {
    let line = log.lines().find_map(|line| line.strip_prefix(name)).expect(name);
    let mut numbers: Vec<u32> = line.split_whitespace().map(|number| number.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// The app's user, group and supplementary groups.
fn identity(sandbox: &Sandbox, lines: &str) -> (u32, u32, Vec<u32>) {
    let log = output(sandbox, &format!("{lines}\ncommand = cat /proc/self/status"));
    let (uids, gids) = (numbers(&log, "Uid:"), numbers(&log, "Gid:"));
    assert_eq!(uids, [uids[0]; 4], "real, effective, saved and filesystem uid differ");
    assert_eq!(gids, [gids[0]; 4], "real, effective, saved and filesystem gid differ");
    (uids[0], gids[0], numbers(&log, "Groups:"))
}

#[test]
fn commands_from_pre_app_on_begin_in_the_directory_of_the_app() {
    sandboxed(|sandbox| {
        let says = |phase: &str| format!("exec-{phase} = echo {phase}:$(pwd)\n");
        let phases = ["as-root", "as-user", "pre-app", "post-app", "as-user-atexit"];
        let lines = phases.map(says).concat();
        let log = output(sandbox, &format!("{lines}chdir = /usr/lib\ncommand = sh -c 'echo app:$(pwd)'"));
        for (phase, is_there) in
            phases.into_iter().zip([false, false, true, true, true]).chain([("app", true)])
        {
            let line = log.lines().find_map(|line| line.strip_prefix(&format!("{phase}:"))).expect(phase);
            assert_eq!(line == "/usr/lib", is_there, "{log}");
        }
        // A hook of that phase has the last word, as in uWSGI.
        let log = output(sandbox, "chdir = /usr\nhook-pre-app = chdir:lib\ncommand = pwd");
        assert!(log.contains("/usr/lib\n"), "{log}");
    });
}

#[test]
fn the_app_is_the_user_and_groups_that_its_file_names() {
    sandboxed(|sandbox| {
        sandbox.append_to("/etc/group", GROUPS);
        let user: u32 = run("id", &["-u", "user001"]).trim().parse().unwrap();
        let group: u32 = run("id", &["-g", "user001"]).trim().parse().unwrap();
        let member = vec![group, 5001, 5003];
        for (lines, expected) in [
            ("uid = user001", (user, group, member.clone())),
            ("uid = user001\ngid = user001", (user, group, member.clone())),
            (&format!("uid = {user}\ngid = {group}"), (user, group, member)),
            ("uid = user001\ngid = extra", (user, 5004, vec![5001, 5003, 5004])),
            ("uid = user001\ngid = 5004\nno-initgroups =", (user, 5004, vec![5004])),
            ("uid = user001\nno-initgroups = true", (user, group, vec![group])),
            (
                "uid = user001\nno-initgroups =\nadd-gid = others\nadd-gid = 7000",
                (user, group, vec![group, 5002, 7000]),
            ),
            ("uid = 4321\ngid = 4322", (4321, 4322, vec![4322])),
        ] {
            assert_eq!(identity(sandbox, lines), expected, "{lines}");
        }
    });
}

#[test]
fn as_user_hooks_have_the_users_identity_and_as_root_hooks_do_not() {
    sandboxed(|sandbox| {
        let lines = "uid = user001\nexec-as-root = echo root:$(id -un)\nexec-as-user = echo user:$(id -un)\n\
                     exec-pre-app = echo pre:$(id -un)\nexec-as-user-atexit = echo exit:$(id -un)\ncommand \
                         = true";
        let log = output(sandbox, &lines.replace("$(", "`").replace("-un)", "-un`"));
        for line in ["root:root", "user:user001", "pre:user001", "exit:user001"] {
            assert!(log.lines().any(|found| found == line), "{line}");
        }
    });
}

#[test]
fn an_unknown_user_or_group_is_named_with_its_place() {
    sandboxed(|sandbox| {
        for (lines, place, what) in [
            ("command = true\nuid = nobody-knows", "3:7", "uid: user 'nobody-knows': does not exist"),
            ("command = true\n gid = nowhere", "3:8", "gid: group 'nowhere': does not exist"),
            (
                "uid = user001\nadd-gid = nowhere\ncommand = true",
                "3:11",
                "add-gid: group 'nowhere': does not exist",
            ),
        ] {
            let mut vassal = sandbox.vassal_init("vassal", lines);
            assert_eq!(vassal.wait(), 71, "{lines}");
            let line = vassal.wait_for(what);
            let place = format!("{}:{place}: ", sandbox.path("vassal.ini").display());
            assert!(line.contains(&place), "{line}");
        }
    });
}

#[test]
fn root_is_given_up_for_good() {
    sandboxed(|sandbox| {
        let app = sandbox.file(
            "regain.pl",
            "$< = $> = 0; $( = $) = 0; print STDERR \"became root\\n\" if $< == 0 || $> == 0 || $( == 0;\n\
             open my $status, '<', '/proc/self/status'; print STDERR grep /^Cap/, <$status>;",
        );
        let log = output(sandbox, &format!("uid = user001\ncommand = perl {}", app.display()));
        assert!(!log.contains("became root"), "{log}");
        for set in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert!(log.contains(&format!("{set}:\t0000000000000000")), "{set}: {log}");
        }
    });
}

#[test]
fn environment_directory_and_mask_are_as_configured() {
    sandboxed(|sandbox| {
        let lines = "env = ADDED=a b=c\nunenv = GONE\nenv = TWICE=1\nenv = TWICE=2\nchdir = /var\numask = \
            027\n\
                     uid = user001\nunenv = UWSGI_EMPEROR_FD\nunenv = NOTIFY_SOCKET\nexec-pre-app = env\n\
                         command = ";
        for (app, expected) in [
            ("env", &["ADDED=a b=c", "KEPT=1", "PATH=/usr/bin:/bin", "TWICE=2"][..]),
            ("sh -c 'pwd; umask'", &["/var", "0027"]),
        ] {
            let wrapper = ["env", "-i", "PATH=/usr/bin:/bin", "KEPT=1", "GONE=1"];
            let mut command = sandbox.wrapped(&wrapper, "vassal-init");
            command.args(["--unshare", "fs,pid"]).arg(sandbox.ini("vassal", &format!("{lines}{app}")));
            let mut vassal = sandbox.start("vassal", command);
            assert_eq!(vassal.wait(), 0);
            let log = vassal.log();
            let (hook, app) = log.split_once("done in ").unwrap();
            let mut said: Vec<_> =
                app.lines().skip(1).filter(|line| !line.starts_with("vassal-init")).collect();
            said.sort_unstable();
            assert_eq!(said, expected);
            assert!(hook.contains("ADDED=a b=c") && !hook.contains("GONE=1"), "a hook's environment");
        }
    });
}

#[test]
fn a_clean_environment_has_nothing_of_the_starters() {
    sandboxed(|sandbox| {
        sandbox.append_to("/etc/passwd", "shellless:x:4321:4321::/home/s:\n");
        let lines = "clean-env = true\nenv = ADDED=1\nunenv = UWSGI_EMPEROR_FD\nunenv = NOTIFY_SOCKET\n\
                     hook-as-root = putenv:HOOK=2\ncommand = env\n";
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let home = run("sh", &["-c", "getent passwd user001 | cut -d: -f6"]);
        let shell = run("sh", &["-c", "getent passwd user001 | cut -d: -f7"]);
        let (home, shell) = (format!("HOME={}", home.trim()), format!("SHELL={}", shell.trim()));
        let of_user001 = ["USER=user001", "LOGNAME=user001", &home, &shell];
        for (more, expected) in [
            ("uid = user001", of_user001.as_slice()),
            ("uid = user001\nenv = HOME=/x\nunenv = SHELL", &["USER=user001", "LOGNAME=user001", "HOME=/x"]),
            (
                "uid = shellless\nhook-asap = putenv:USER=of-hook",
                &["USER=of-hook", "LOGNAME=shellless", "HOME=/home/s", "SHELL=/bin/sh"],
            ),
            ("uid = 4322\ngid = 4322", &["HOME=/", "SHELL=/bin/sh"]),
            ("uid = root", &["USER=root", "LOGNAME=root", "HOME=/root", "SHELL=/bin/bash"]),
        ] {
            let wrapper = ["env", "-i", "PATH=/usr/bin:/bin", "SECRET=1", "HOME=/root", "TERM=x"];
            let mut command = sandbox.wrapped(&wrapper, "vassal-init");
            command.arg(sandbox.ini("vassal", &format!("{lines}{more}")));
            let mut vassal = sandbox.start("vassal", command);
            assert_eq!(vassal.wait(), 0, "{more}");
            let log = vassal.log();
            let mut said: Vec<_> = log.lines().filter(|line| !line.starts_with("vassal-init")).collect();
            let mut expected: Vec<_> = [path, "ADDED=1", "HOOK=2"].iter().chain(expected).copied().collect();
            said.sort_unstable();
            expected.sort_unstable();
            assert_eq!(said, expected, "{more}");
        }
    });
}

#[test]
fn the_passwd_of_a_tree_makes_no_user_root() {
    sandboxed(|sandbox| {
        std::fs::create_dir_all(sandbox.path("tree/etc")).unwrap();
        sandbox.file("tree/etc/passwd", "user001:x:0:0::/:/bin/sh\n");
        sandbox.file("tree/etc/group", "user001:x:0:\n");
        for (lines, what) in [
            ("uid = user001", "uid: user 'user001': is 0 in /etc/passwd of the jail: write uid = 0 if"),
            ("uid = 1\ngid = user001", "gid: group 'user001': is 0 in /etc/group of the jail: write gid = 0"),
        ] {
            let lines = format!("{lines}\nchroot = /run/scratch/tree\ncommand = /app");
            let mut vassal = sandbox.vassal_init("vassal", &lines);
            assert_eq!(vassal.wait(), 71);
            vassal.wait_for(what);
        }
    });
}

/// Of the log of `ls /proc/self/fd`: the descriptors, without the one that `ls` reads them from.
fn descriptors(vassal: &Daemon) -> Vec<String> {
    vassal.log().lines().filter(|line| line.parse::<u32>().is_ok()).map(str::to_owned).collect()
}

/// What we ourselves would give the app: see `readiness.rs`.
const UNOFFERED: &str = "unenv = UWSGI_EMPEROR_FD";

#[test]
fn descriptors_of_the_starter_do_not_reach_the_app() {
    sandboxed(|sandbox| {
        let leaky = ["bash", "-c", "exec 7</etc/passwd 77</etc/passwd; exec \"$@\"", "leaky"];
        let mut command = sandbox.wrapped(&leaky, "vassal-init");
        command
            .args(["--unshare", "fs,pid"])
            .arg(sandbox.ini("vassal", &format!("{UNOFFERED}\ncommand = ls /proc/self/fd")));
        let mut vassal = sandbox.start("vassal", command);
        assert_eq!(vassal.wait(), 0);
        assert_eq!(descriptors(&vassal), ["0", "1", "2", "3"]);

        sandbox.vassal(
            "app",
            &format!("{UNOFFERED}\ncommand = ls /proc/self/fd\nexec-as-root = ls /proc/self/fd"),
        );
        let mut command = sandbox.wrapped(&leaky, "emperor");
        command.args(["--emperor", crate::common::sandbox::VASSALS, "--emperor-use-clone", "fs,pid"]);
        // No second try, which would show them again.
        command.args(["--emperor-throttle", "3600000", "--emperor-max-throttle", "3600000"]);
        let emperor = sandbox.start("emperor", command);
        emperor.wait_for("app exited with status 0: ");
        assert_eq!(descriptors(&emperor), ["0", "1", "2", "3", "0", "1", "2", "3"]);
        emperor.stop();
    });
}
