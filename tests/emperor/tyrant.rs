//! Tyrant mode: a vassal is its file's owner, and whoever may write files gets nothing else by it.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Daemon, Sandbox, process, run, sandboxed, unmount};
use crate::unprivileged::status;
use rustix::process::Signal;

/// An owner that no database knows.
const OWNER: u32 = 4242;

/// A vassal's file that belongs to somebody before the emperor can see it.
fn vassal(sandbox: &Sandbox, name: &str, owner: (u32, u32), lines: &str) {
    let draft = sandbox.file("draft", &format!("[uwsgi]\n{lines}\n"));
    lchown(&draft, Some(owner.0), Some(owner.1)).unwrap();
    fs::create_dir_all(VASSALS).unwrap();
    // A rename, also from another filesystem.
    run("cp", &["-p", draft.to_str().unwrap(), &format!("{VASSALS}/{name}.draft")]);
    fs::rename(format!("{VASSALS}/{name}.draft"), vassal_path(name)).unwrap();
}

fn tyrant(sandbox: &Sandbox, options: &[&str]) -> Daemon {
    sandbox.emperor(&[&["--emperor-tyrant"], options].concat())
}

#[test]
fn everything_in_the_file_is_done_as_its_owner() {
    sandboxed(|sandbox| {
        // Neither a group of the emperor's nor a capability is left in any phase.
        let show = r#"echo "`id -u` `id -g` `id -G` `grep CapEff /proc/self/status | cut -f2`""#;
        let phases = ["asap", "pre-jail", "post-jail", "in-jail", "as-root", "as-user", "pre-app"];
        let mut lines = String::new();
        for phase in phases {
            lines += &format!("exec-{phase} = {show} | sed 's/^/vassal {phase} /'\n");
        }
        lines += "command = sleep 1000";
        vassal(sandbox, "a", (OWNER, 4343), &lines);
        let emperor = tyrant(sandbox, &["--exec-as-vassal", &format!("{show} | sed 's/^/emperor /'")]);
        let pid = emperor.wait_running(1, "a");
        for phase in phases {
            assert_eq!(
                emperor.lines(&format!("vassal {phase} ")).first().unwrap(),
                &format!("vassal {phase} 4242 4343 4343 0000000000000000")
            );
        }
        assert!(emperor.wait_for("emperor 0 0 ").ends_with("ff"), "the emperor's own hook is root's");
        // PID 1 itself.
        for (key, value) in [
            ("Uid:", "4242 4242 4242 4242"),
            ("Gid:", "4343 4343 4343 4343"),
            ("Groups:", "4343"),
            ("CapPrm:", "0000000000000000"),
            ("CapEff:", "0000000000000000"),
            ("CapInh:", "0000000000000000"),
            ("CapAmb:", "0000000000000000"),
        ] {
            assert_eq!(status(pid, key), value, "{key}");
        }
        // The app has the same, and cannot gain anything.
        let app = process::only("sleep").pid;
        assert_eq!(status(app, "Uid:"), "4242 4242 4242 4242");
        assert_eq!(status(app, "NoNewPrivs:"), "1");
        emperor.stop();
    });
}

#[test]
fn what_only_root_may_do_fails_in_a_users_file() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("users above 65536") {
            return;
        }
        for (name, lines, expected) in [
            (
                "uid",
                "uid = root",
                "emperor-tyrant runs this vassal as its file's owner: user 4242, group 4242",
            ),
            ("gid", "gid = 7", "emperor-tyrant runs this vassal as its file's owner: user 4242, group 4242"),
            (
                "groups",
                "add-gid = 0",
                "add-gid: the file's owner has the groups that 'emperor-tyrant-initgroups' gives",
            ),
            ("cap", "cap = net_bind_service", "cap: the file's owner has no capabilities to keep"),
            ("unshare", "unshare = net", "those that 'emperor-use-clone' names"),
            ("mount", "mount-as-root = tmpfs none /mnt", "Operation not permitted (EPERM)"),
            ("chroot", "chroot = /run", "Operation not permitted (EPERM)"),
            ("write", "hook-as-root = write:/etc/uwsgi/x y", "Permission denied (EACCES)"),
            ("secret", "x = @(/etc/shadow)", "cannot read '/etc/shadow': Permission denied (EACCES)"),
            ("include", "include = /etc/shadow", "cannot read '/etc/shadow': Permission denied (EACCES)"),
            // Only what the emperor's file says under this key is root's.
            (
                "vassal",
                "exec-as-vassal = touch /run/scratch/x",
                "'exec-as-vassal' only counts in the emperor's file",
            ),
        ] {
            vassal(sandbox, name, (OWNER, OWNER), &format!("{lines}\ncommand = sleep 1000"));
            let emperor = tyrant(sandbox, &[]);
            let line = emperor.wait_for(expected);
            assert!(line.contains(name), "{line}");
            if name != "vassal" {
                emperor.wait_for(&format!("emperor: {name}: "));
                assert_eq!(emperor.lines("running after"), [""; 0], "{name}");
            }
            emperor.stop();
            fs::remove_file(vassal_path(name)).unwrap();
        }
        assert!(!Path::new("/run/scratch/x").exists());
    });
}

#[test]
fn an_owner_may_only_make_it_likelier_that_memory_is_taken_from_him() {
    sandboxed(|sandbox| {
        vassal(sandbox, "more", (OWNER, OWNER), "oom-score-adj = 500\ncommand = sleep 1000");
        vassal(sandbox, "less", (OWNER, OWNER), "oom-score-adj = -500\ncommand = sleep 1000");
        let emperor = tyrant(sandbox, &[]);
        emperor.wait_running(1, "more");
        let app = process::only("sleep").pid;
        assert_eq!(fs::read_to_string(format!("/proc/{app}/oom_score_adj")).unwrap(), "500\n");
        emperor.wait_for("emperor: less: setup failed in limits: ");
        assert!(emperor.lines("write /proc/self/oom_score_adj: Permission denied (EACCES)").len() > 1);
        emperor.stop();
    });
}

#[test]
fn files_of_root_and_of_everybody_are_refused_by_name_and_rule() {
    sandboxed(|sandbox| {
        vassal(sandbox, "root", (0, OWNER), "command = sleep 1000");
        vassal(sandbox, "group", (OWNER, 0), "command = sleep 1000");
        vassal(sandbox, "open", (OWNER, OWNER), "command = sleep 1000");
        fs::set_permissions(vassal_path("open"), Permissions::from_mode(0o666)).unwrap();
        let emperor = tyrant(sandbox, &["--emperor-throttle", "100000"]);
        let refused = |name: &str, owner: &str, rule: &str| {
            let path = vassal_path(name);
            emperor.wait_for(&format!(
                "emperor: {name}: cannot start: run {}: it belongs to {owner}, and emperor-tyrant {rule}; \
                 next try in ",
                path.display()
            ));
        };
        refused("root", "user 0, group 4242", "runs nothing as root");
        refused("group", "user 4242, group 0", "runs nothing with root's group: set its group (chgrp)");
        refused("open", "user 4242, group 4242", "runs no file that everybody may write to");
        // Put right, it is tried at once: a change of owner counts as a change of the file.
        lchown(vassal_path("root"), Some(OWNER), None).unwrap();
        emperor.wait_running(1, "root");
        emperor.stop();
    });
}

#[test]
fn a_new_owner_gets_a_new_instance_and_root_none() {
    sandboxed(|sandbox| {
        vassal(sandbox, "a", (OWNER, OWNER), "command = sleep 1000");
        let emperor = tyrant(sandbox, &["--emperor-throttle", "100000"]);
        emperor.wait_running(1, "a");
        lchown(vassal_path("a"), Some(5000), Some(5001)).unwrap();
        emperor.wait_for(
            "emperor: a: needs a fresh jail: its file belongs to user 5000, group 5001 now: restarting",
        );
        let pid = emperor.wait_running(2, "a");
        assert_eq!(status(pid, "Uid:"), "5000 5000 5000 5000");
        assert_eq!(status(process::only("sleep").pid, "Gid:"), "5001 5001 5001 5001");
        lchown(vassal_path("a"), Some(0), Some(0)).unwrap();
        emperor.wait_for(
            "emperor: a: cannot start: run /etc/uwsgi/vassals/a.ini: it belongs to user 0, group 0",
        );
        assert!(process::named("sleep").is_empty());
        emperor.stop();
    });
}

/// Who has created the socket that listens on a port.
fn listener_of(port: u16) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut listening =
        fields.filter(|fields| fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == "0A");
    listening.next().map(|fields| fields[7].parse().unwrap())
}

#[test]
fn sockets_are_the_owners_and_no_other_owner_gets_them() {
    sandboxed(|sandbox| {
        let open = sandbox.path("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let file = open.join("a.sock");
        let lines = format!("listen = 127.0.0.1:7000\nlisten = {}\ncommand = sleep 1000", file.display());
        vassal(sandbox, "a", (OWNER, OWNER), &lines);
        vassal(sandbox, "low", (OWNER, OWNER), "listen = 127.0.0.1:80\ncommand = sleep 1000");
        let lines =
            format!("chown-socket = root\nlisten = {}\ncommand = sleep 1000", open.join("b").display());
        vassal(sandbox, "giver", (OWNER, OWNER), &lines);
        let emperor = tyrant(sandbox, &["--emperor-throttle", "100000"]);
        emperor.wait_running(1, "a");
        assert_eq!(listener_of(7000), Some(OWNER));
        assert_eq!(fs::metadata(&file).unwrap().uid(), OWNER);
        emperor.wait_for("listen on 127.0.0.1:80: Permission denied (EACCES)");
        emperor.wait_for("/open/b: Operation not permitted (EPERM)");

        // The new owner could not take another's away.
        fs::remove_file(&file).unwrap();
        lchown(vassal_path("a"), Some(5000), Some(5001)).unwrap();
        emperor.wait_running(2, "a");
        assert_eq!(listener_of(7000), Some(5000));
        assert_eq!(fs::metadata(&file).unwrap().uid(), 5000);
        emperor.stop();
    });
}

#[test]
fn nothing_that_a_users_file_inherits_beats_the_policy() {
    sandboxed(|sandbox| {
        let own = sandbox.file("own.ini", "[uwsgi]\numask = 000\nno-new-privs = false\nenv = POLICY=eve\n");
        let policy = "[uwsgi]\numask = 077\nno-new-privs = true\nenv = POLICY=root\nlimit-nofile = 77\n";
        let policy = sandbox.file("policy.ini", policy);
        let lines = format!(
            "inherit = {}\nlimit-nofile = 0\n\
             command = sh -c 'echo has `umask` $POLICY `ulimit -n` `grep NoNew /proc/self/status`; \
             exec sleep 9'",
            own.display()
        );
        vassal(sandbox, "a", (OWNER, OWNER), &lines);
        let emperor = tyrant(sandbox, &["--vassals-include", policy.to_str().unwrap()]);
        assert_eq!(emperor.wait_for("has "), "has 0077 root 77 NoNewPrivs: 1");
        emperor.stop();
    });
}

#[test]
fn a_users_hook_is_bound_by_the_policy_in_every_phase() {
    sandboxed(|sandbox| {
        let policy =
            "[uwsgi]\nno-new-privs = true\nconfine-hooks = true\nseccomp = default\nlimit-nofile = 77\n";
        let policy = sandbox.file("policy.ini", policy);
        let phases =
            ["asap", "pre-jail", "post-jail", "in-jail", "as-root", "as-user", "pre-app", "post-app"];
        let show = "`ulimit -n` `grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr -s '\\\\t\\\\n' '  '`";
        let mut lines = String::from("confine-hooks = false\n");
        for phase in phases {
            lines += &format!("exec-{phase} = echo hook {phase} has {show}\n");
        }
        vassal(sandbox, "a", (OWNER, OWNER), &(lines + "command = sleep 1000"));
        let emperor = tyrant(sandbox, &["--vassals-include", policy.to_str().unwrap()]);
        for phase in phases {
            let has = emperor.wait_for(&format!("hook {phase} has "));
            assert_eq!(has, format!("hook {phase} has 77 NoNewPrivs: 1 Seccomp: 2"));
        }
        emperor.stop();
    });
}

#[test]
fn a_users_app_has_no_privileges_to_keep_from_the_policy() {
    sandboxed(|sandbox| {
        let show = "sh -c 'echo has `ulimit -n` `grep -E NoNewPrivs: /proc/self/status`; exec sleep 1000'";
        let policy = "[uwsgi]\nno-new-privs = true\nlimit-nofile = 77\ncap-drop = all\n";
        let policy = sandbox.file("policy.ini", policy);
        let privileged = format!("privileged-binary-patch = sh\nprivileged-binary-patch-arg = {show}");
        vassal(sandbox, "privileged", (OWNER, OWNER), &privileged);
        let emperor = tyrant(sandbox, &["--vassals-include", policy.to_str().unwrap()]);
        assert_eq!(emperor.wait_for("has "), "has 77 NoNewPrivs: 1");
        vassal(sandbox, "plain", (OWNER, OWNER), &format!("command = {show}"));
        assert_eq!(emperor.wait_for_nth(2, "has "), "has 77 NoNewPrivs: 1");
        emperor.stop();
        // With set-user-id programs the bounding set matters, and nobody may drop from it as the owner.
        let weak = "[uwsgi]\nno-new-privs = false\ncap-drop = all\n";
        let weak = sandbox.file("policy.ini", weak);
        let emperor = tyrant(sandbox, &["--vassals-include", weak.to_str().unwrap()]);
        emperor.wait_for("bounding set: Operation not permitted");
        emperor.stop();
    });
}

#[test]
fn a_users_file_reads_no_variable_that_the_policy_keeps_from_its_app() {
    sandboxed(|sandbox| {
        let lines = "set-placeholder = mask=022\nenv = LEAK=$(SECRET)\nenv = TWO=$(OF_POLICY)\n\
                     if-env = SECRET\nenv = SEEN=yes\nendif =\n\
                     command = sh -c 'echo has [$LEAK] [$SEEN] [$TOKEN] [$TWO]; exec sleep 1000'";
        for (policy, has) in [
            ("", "has [hidden] [yes] [token] [$(OF_POLICY)]"),
            ("clean-env = true\n", "has [$(SECRET)] [] [] [$(OF_POLICY)]"),
            ("unenv = SECRET\n", "has [$(SECRET)] [] [token] [$(OF_POLICY)]"),
            // What the policy hands on is for the app.
            ("clean-env = true\nenv = TOKEN=$(TOKEN)\nenv = OF_POLICY=1\n", "has [$(SECRET)] [] [token] [1]"),
            // It has no sense without the file.
            ("clean-env = true\numask = %(mask)\n", "has [$(SECRET)] [] [] [$(OF_POLICY)]"),
        ] {
            let policy = sandbox.file("policy.ini", &format!("[uwsgi]\n{policy}"));
            vassal(sandbox, "a", (OWNER, OWNER), lines);
            let mut command = sandbox.program("emperor");
            command.args(["--emperor", VASSALS, "--emperor-tyrant", "--vassals-include"]);
            command.arg(policy).env("SECRET", "hidden").env("TOKEN", "token");
            let emperor = sandbox.start("emperor", command);
            assert_eq!(emperor.wait_for("has ["), has);
            // A reload reads it once more.
            vassal(sandbox, "a", (OWNER, OWNER), &format!("{lines}\nenv = MORE=1"));
            assert_eq!(emperor.wait_for_nth(2, "has ["), has, "after a reload");
            emperor.stop();
            fs::remove_file(vassal_path("a")).unwrap();
        }
    });
}

#[test]
fn no_command_of_the_emperors_stands_in_a_users_directory() {
    sandboxed(|sandbox| {
        fs::create_dir_all(VASSALS).unwrap();
        fs::write(Path::new(VASSALS).join("trap.sh"), "echo trapped as `id -u`\n").unwrap();
        fs::write(Path::new(VASSALS).join("own.inc"), "[uwsgi]\nenv = OWN=included\n").unwrap();
        let lines = "include = own.inc\nexec-asap = echo asap in `pwd`\n\
                     command = sh -c 'echo app in `pwd` $OWN; exec sleep 1000'";
        vassal(sandbox, "a", (OWNER, OWNER), lines);
        let trap = "if [ -e trap.sh ]; then . ./trap.sh; fi; ";
        let asked = sandbox.path("asked");
        let question = format!("{trap} f() {{ echo `pwd` $1 > {}; }}; f", asked.display());
        let emperor = tyrant(
            sandbox,
            &[
                "--exec-as-vassal",
                &format!("{trap} echo hook in `pwd`"),
                "--emperor-on-demand-exec",
                &question,
            ],
        );
        emperor.wait_running(1, "a");
        assert_eq!(emperor.wait_for("hook in "), "hook in /");
        assert_eq!(fs::read_to_string(asked).unwrap(), format!("/ {}\n", vassal_path("a").display()));
        // The owner's own relative paths begin there, also when the file is read again.
        assert_eq!(emperor.wait_for("asap in "), format!("asap in {VASSALS}"));
        assert_eq!(emperor.wait_for("app in "), format!("app in {VASSALS} included"));
        fs::write(Path::new(VASSALS).join("own.inc"), "[uwsgi]\nenv = OWN=again\n").unwrap();
        fs::write(vassal_path("a"), format!("[uwsgi]\n{lines}\n")).unwrap();
        emperor.wait_for("app in /etc/uwsgi/vassals again");
        assert_eq!(emperor.lines("trapped"), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn a_policy_is_never_read_from_a_users_directory() {
    sandboxed(|sandbox| {
        fs::create_dir_all(VASSALS).unwrap();
        fs::write(Path::new(VASSALS).join("policy.ini"), "[uwsgi]\numask = 0\n").unwrap();
        vassal(sandbox, "a", (OWNER, OWNER), "command = sleep 1000");
        let nested = sandbox.file("nested.ini", "[uwsgi]\ninclude = policy.ini\n");
        let value = sandbox.file("value.ini", "[uwsgi]\nenv = A=@(policy.ini)\n");
        for policy in ["policy.ini", nested.to_str().unwrap(), value.to_str().unwrap()] {
            for key in ["--vassals-include", "--vassals-inherit", "--vassals-inherit-before"] {
                if policy.contains("value") && key.contains("inherit") {
                    // What is inherited has no placeholders.
                    continue;
                }
                let emperor = tyrant(sandbox, &[key, policy, "--emperor-throttle", "100000"]);
                emperor.wait_for(
                    "cannot read 'policy.ini': in a policy it would be a file of the vassal's owner",
                );
                emperor.stop();
            }
        }
    });
}

#[test]
fn nobody_gets_the_socket_of_a_vassal_of_the_same_name() {
    sandboxed(|sandbox| {
        let sockets = sandbox.path("od");
        fs::create_dir(&sockets).unwrap();
        for (user, uid) in [("eve", 5000), ("alice", OWNER)] {
            let directory = sandbox.path("home").join(user).join("v");
            fs::create_dir_all(&directory).unwrap();
            let serve =
                "import socket, os; socket.socket(fileno=3).accept()[0].send(str(os.getuid()).encode())";
            fs::write(directory.join("shop.ini"), format!("[uwsgi]\ncommand = python3 -c \"{serve}\"\n"))
                .unwrap();
            lchown(directory.join("shop.ini"), Some(uid), Some(uid)).unwrap();
        }
        let pattern = format!("glob://{}/*/v/*.ini", sandbox.path("home").display());
        let options = ["--emperor", &pattern, "--emperor-on-demand-directory", sockets.to_str().unwrap()];
        let emperor = tyrant(sandbox, &options);
        for (user, uid) in [("eve", "5000"), ("alice", "4242")] {
            emperor.wait_for(&format!("{user}/v/shop: waiting for a connection to "));
            let socket = sockets.join(format!("{user}%2fv%2fshop.socket"));
            let mut answer = String::new();
            let mut stream = UnixStream::connect(socket).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, uid);
        }
        emperor.stop();
        assert_eq!(fs::read_dir(&sockets).unwrap().count(), 0);
    });
}

#[test]
fn one_user_takes_no_more_vassals_than_there_are_for_each() {
    sandboxed(|sandbox| {
        for name in ["a", "b", "c", "d"] {
            vassal(sandbox, name, (5000, 5000), "command = sleep 1000");
        }
        let emperor = tyrant(sandbox, &["--emperor-tyrant-max", "2", "--control", "/run/scratch/control"]);
        emperor.wait_for("has to wait: user 5000 has 2 vassals (emperor-tyrant-max)");
        vassal(sandbox, "e", (OWNER, OWNER), "command = sleep 1000");
        emperor.wait_running(1, "e");
        let status = || run_program(sandbox, &["status"]);
        assert!(
            status().contains("User 5000 has as many vassals as emperor-tyrant-max allows: 2 files more")
        );
        assert_eq!(emperor.lines(": started (pid").len(), 3);
        // Also behind an upgrade; then the end of one makes room.
        process::signal(emperor.pid(), Signal::USR2);
        emperor.wait_for_nth(2, "has to wait: user 5000 has 2 vassals");
        fs::remove_file(vassal_path("a")).unwrap();
        emperor.wait_running(1, "c");
        assert!(status().contains("allows: 1 file more"));
        assert_eq!(emperor.lines("emperor: d: started").len(), 0);
        emperor.stop();
    });
}

#[test]
fn a_directory_that_a_user_hides_hides_nobody_elses() {
    sandboxed(|sandbox| {
        let [uid, gid]: [u32; 2] =
            ["-u", "-g"].map(|flag| run("id", &[flag, "user001"]).trim().parse().unwrap());
        let home = sandbox.path("home");
        let make = |user: &str, name: &str| {
            let directory = home.join(user).join("v").join(name);
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("x.ini"), "[uwsgi]\ncommand = sleep 1000\n").unwrap();
            lchown(directory.join("x.ini"), Some(uid), Some(gid)).unwrap();
        };
        make("eve", "a");
        make("alice", "a");
        lchown(home.join("eve/v"), Some(uid), Some(gid)).unwrap();
        let pattern = format!("glob://{}/*/v/*/*.ini", home.display());
        let options = ["--emperor", &pattern, "--emperor-freq", "1"];
        let mut emperor = tyrant(sandbox, &options);
        emperor.wait_running(1, "eve/v/a/x");
        emperor.wait_running(1, "alice/v/a/x");
        // Root may not even look at a filesystem of a user's.
        let own = home.join("eve/v");
        let ids = [format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()];
        let mount = ["bindfs", "--no-allow-other", "-o", "nonempty", "/usr/share/doc", own.to_str().unwrap()];
        run("setpriv", &[&ids.each_ref().map(String::as_str)[..], &mount].concat());
        let told = format!("open directory {}: Permission denied (EACCES); keeping what runs", own.display());
        emperor.wait_for(&told);
        make("alice", "b");
        emperor.wait_running(1, "alice/v/b/x");
        fs::remove_dir_all(home.join("alice/v/a")).unwrap();
        emperor.wait_for("emperor: alice/v/a/x: file removed");
        assert_eq!(emperor.lines("emperor: eve/v/a/x: file removed"), [""; 0]);
        assert_eq!(emperor.lines(&told).len(), 1);
        process::signal(emperor.pid(), Signal::TERM);
        assert_eq!(emperor.wait(), 0);
        // A new emperor runs the others.
        let again = tyrant(sandbox, &options);
        again.wait_running(1, "alice/v/b/x");
        run("umount", &["-l", own.to_str().unwrap()]);
        again.wait_running(1, "eve/v/a/x");
        again.stop();
    });
}

#[test]
fn a_tree_that_a_hook_enters_gives_its_user_no_groups() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        unmount("/ns/precise/etc");
        let user = run("id", &["-u", "user001"]).trim().parse().unwrap();
        let entry = run("getent", &["passwd", "user001"]);
        fs::write("/ns/precise/etc/passwd", entry).unwrap();
        fs::write("/ns/precise/etc/group", "disk:x:6:user001\n").unwrap();
        run("chown", &["-R", "user001", "/ns/precise/etc"]);
        vassal(sandbox, "a", (user, user), "command = sh -c 'echo groups `id -G`; exec sleep 1000'");
        let hook = ["--emperor-tyrant-initgroups", "--hook-as-vassal", "chroot:/ns/precise"];
        let emperor = tyrant(sandbox, &hook);
        assert_eq!(emperor.wait_for("groups "), format!("groups {user}"));
        emperor.stop();
    });
}

#[test]
fn files_that_a_user_leads_to_count_as_that_users() {
    sandboxed(|sandbox| {
        let home = sandbox.path("home");
        for directory in ["owner/v", "owner/more", "attacker"] {
            fs::create_dir_all(home.join(directory)).unwrap();
            lchown(home.join(directory), Some(OWNER), Some(OWNER)).unwrap();
        }
        for file in ["more/1", "more/2", "more/3", "v/own"] {
            let file = home.join("owner").join(format!("{file}.ini"));
            fs::write(&file, "[uwsgi]\ncommand = sleep 1000\n").unwrap();
            lchown(&file, Some(OWNER), Some(OWNER)).unwrap();
        }
        lchown(home.join("attacker"), Some(5000), Some(5000)).unwrap();
        symlink("../owner/more", home.join("attacker/v")).unwrap();
        lchown(home.join("attacker/v"), Some(5000), Some(5000)).unwrap();
        let pattern = format!("glob://{}/*/v/*.ini", home.display());
        let options = ["--emperor", &pattern, "--emperor-tyrant-max", "1", "--emperor-throttle", "100000"];
        let emperor = tyrant(sandbox, &options);
        emperor.wait_for("has to wait: user 5000 has 1 vassal");
        emperor.wait_running(1, "owner/v/own");
        emperor.stop();
    });
}

/// What a command of the emperor prints.
fn run_program(sandbox: &Sandbox, words: &[&str]) -> String {
    let output = sandbox.program("emperor").args(words).args(["--control", "/run/scratch/control"]).output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

#[test]
fn no_user_decides_how_long_the_emperor_may_not_end() {
    sandboxed(|sandbox| {
        let lines = "stop-timeout = 50h\ncommand = sh -c 'trap : TERM; echo up; while :; do sleep 1; done'";
        vassal(sandbox, "a", (OWNER, OWNER), lines);
        vassal(sandbox, "b", (OWNER, OWNER), lines);
        let emperor = tyrant(sandbox, &["--emperor-stop-timeout", "1"]);
        emperor.wait_for_nth(2, "up");
        // Also where its file is gone, and at the end.
        fs::remove_file(vassal_path("b")).unwrap();
        emperor.wait_for("emperor: b: not gone ");
        process::signal(emperor.pid(), Signal::TERM);
        emperor.wait_for("emperor: a: not gone ");
        emperor.stop();
    });
}

#[test]
fn no_command_is_run_for_what_a_file_says() {
    sandboxed(|sandbox| {
        vassal(sandbox, "a", (OWNER, OWNER), "env = WHO=@(exec://id -u)\ncommand = sleep 1000");
        vassal(sandbox, "b", (OWNER, OWNER), "command = sleep 2000");
        let emperor = tyrant(sandbox, &["--emperor-throttle", "100000"]);
        emperor.wait_for("a.ini:2:");
        emperor.wait_for("no command may be run here");
        emperor.wait_running(1, "b");
        fs::write(vassal_path("b"), "[uwsgi]\nenv = WHO=@(exec://id -u)\ncommand = sleep 2000\n").unwrap();
        // That is its file's mistake, and no fresh jail would mend it.
        emperor.wait_for("emperor: b: reload refused: ");
        process::only("sleep");
        emperor.stop();
    });
}

#[test]
fn an_upgrade_to_tyrant_mode_leaves_nobody_root() {
    sandboxed(|sandbox| {
        vassal(sandbox, "a", (OWNER, OWNER), "listen = 127.0.0.1:7000\ncommand = sleep 1000");
        let text = format!("emperor = {VASSALS}\nemperor-use-clone = fs,pid\n");
        let ini = sandbox.ini("emperor", &text);
        let mut command = sandbox.program("emperor");
        command.arg(&ini);
        let emperor = sandbox.start("emperor", command);
        let pid = emperor.wait_running(1, "a");
        assert_eq!((status(pid, "Uid:"), listener_of(7000)), ("0 0 0 0".into(), Some(0)));
        fs::write(&ini, format!("[uwsgi]\n{text}emperor-tyrant = true\n")).unwrap();
        process::signal(emperor.pid(), Signal::USR2);
        let pid = emperor.wait_running(2, "a");
        assert_eq!((status(pid, "Uid:"), listener_of(7000)), ("4242 4242 4242 4242".into(), Some(OWNER)));
        // The next program knows whose it is.
        process::signal(emperor.pid(), Signal::USR2);
        emperor.wait_for_nth(2, " has taken over 1 vassal");
        lchown(vassal_path("a"), Some(5000), Some(5001)).unwrap();
        let pid = emperor.wait_running(3, "a");
        assert_eq!((status(pid, "Uid:"), listener_of(7000)), ("5000 5000 5000 5000".into(), Some(5000)));
        assert_eq!(emperor.lines("emperor: a: started").len(), 3);
        emperor.stop();
    });
}

#[test]
fn a_link_shows_nobody_what_he_may_not_read() {
    sandboxed(|sandbox| {
        fs::create_dir_all(VASSALS).unwrap();
        let secret = sandbox.file("secret", "[uwsgi]\nhook-asap = print:the secret\ncommand = sleep 1000\n");
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        let shared = sandbox.file("shared", "[uwsgi]\nhook-asap = print:%n shared\ncommand = sleep 1000\n");
        let link = |name: &str, target: &Path| {
            let draft = sandbox.path("link");
            symlink(target, &draft).unwrap();
            lchown(&draft, Some(OWNER), Some(OWNER)).unwrap();
            run("cp", &["-a", draft.to_str().unwrap(), vassal_path(name).to_str().unwrap()]);
            fs::remove_file(&draft).unwrap();
        };
        link("nosy", &secret);
        link("fine", &shared);
        // The link's owner counts, and that is how far it leads.
        for nofollow in [&[][..], &["--emperor-tyrant-nofollow"]] {
            let emperor = tyrant(sandbox, &[nofollow, &["--emperor-throttle", "100000"]].concat());
            let pid = emperor.wait_running(1, "fine");
            assert_eq!(status(pid, "Uid:"), "4242 4242 4242 4242");
            emperor.wait_for("vassal-init[fine]: fine shared");
            let refused = "/etc/uwsgi/vassals/nosy.ini: Permission denied (EACCES)";
            emperor.wait_for(&format!("nosy: cannot start: open as its owner {refused}"));
            assert_eq!(emperor.lines("the secret"), [""; 0]);
            emperor.stop();
        }
    });
}

#[test]
fn only_a_link_of_roots_runs_a_file_as_the_one_that_it_belongs_to() {
    sandboxed(|sandbox| {
        fs::create_dir_all(VASSALS).unwrap();
        fs::set_permissions(VASSALS, Permissions::from_mode(0o1777)).unwrap();
        let owned = |path: &Path, uid| lchown(path, Some(uid), Some(uid)).unwrap();
        let own = sandbox.file("own.ini", "[uwsgi]\ncommand = sh -c 'echo %n as `id -u`; exec sleep 1000'\n");
        owned(&own, OWNER);
        let link = |name: &str, target: &Path, uid| {
            symlink(target, vassal_path(name)).unwrap();
            owned(&vassal_path(name), uid);
        };
        link("roots", &own, 0);
        link("thiefs", &own, 5000);
        // Through a link of root's, a link of a user's in the end.
        let second = sandbox.path("second");
        symlink(&own, &second).unwrap();
        owned(&second, 5000);
        link("both", &second, 0);
        let throttle = ["--emperor-throttle", "100000"];
        let emperor = tyrant(sandbox, &throttle);
        for (name, uid) in [("roots", OWNER), ("thiefs", 5000), ("both", 5000)] {
            emperor.wait_for(&format!("{name} as {uid}"));
        }
        emperor.stop();
        let emperor = tyrant(sandbox, &[&["--emperor-tyrant-nofollow"], &throttle[..]].concat());
        emperor.wait_for("thiefs as 5000");
        for name in ["roots", "both"] {
            emperor.wait_for(&format!("{name}.ini: it belongs to user 0, group 0, and emperor-tyrant runs"));
        }
        emperor.stop();
    });
}

#[test]
fn a_file_gives_its_owner_no_group_that_the_directory_has() {
    sandboxed(|sandbox| {
        sandbox.append_to("/etc/group", "secret:x:7000:\nshared:x:7001:user001\n");
        let [uid, gid] = ["-u", "-g"].map(|flag| run("id", &[flag, "user001"]).trim().parse().unwrap());
        for (name, group) in [("own", gid), ("listed", 7001), ("secret", 7000)] {
            vassal(sandbox, name, (uid, group), "command = sh -c 'echo %n has `id -G`; exec sleep 1000'");
        }
        vassal(sandbox, "unknown", (OWNER, 7000), "command = sleep 1000");
        let emperor = tyrant(sandbox, &["--emperor-throttle", "100000"]);
        assert_eq!(emperor.wait_for("own has "), format!("own has {gid}"));
        assert_eq!(emperor.wait_for("listed has "), "listed has 7001");
        assert_eq!(emperor.wait_for("secret has "), format!("secret has {gid}"));
        emperor.wait_for("user 4242, group 7000, and emperor-tyrant knows no group of that user");
        emperor.stop();
    });
}

#[test]
fn what_others_of_a_group_may_write_runs_as_nobody() {
    sandboxed(|sandbox| {
        sandbox.append_to("/etc/group", "web:x:7000:user001,somebody\n");
        let [uid, gid] = ["-u", "-g"].map(|flag| run("id", &[flag, "user001"]).trim().parse().unwrap());
        vassal(sandbox, "own", (uid, gid), "command = sleep 1000");
        vassal(sandbox, "web", (uid, 7000), "command = sleep 1000");
        for name in ["own", "web"] {
            fs::set_permissions(vassal_path(name), Permissions::from_mode(0o664)).unwrap();
        }
        // In a directory of others, each could put a file of somebody else's there.
        for (name, owner, mode) in
            [("loose", (0, 7000), 0o775), ("sticky", (0, 7000), 0o1777), ("mine", (uid, gid), 0o775)]
        {
            let directory = sandbox.path("dirs").join(name);
            fs::create_dir_all(&directory).unwrap();
            lchown(&directory, Some(owner.0), Some(owner.1)).unwrap();
            fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
            fs::copy(vassal_path("own"), directory.join(format!("{name}.ini"))).unwrap();
            fs::set_permissions(directory.join(format!("{name}.ini")), Permissions::from_mode(0o644))
                .unwrap();
            lchown(directory.join(format!("{name}.ini")), Some(uid), Some(gid)).unwrap();
        }
        let pattern = format!("glob://{}/*/*.ini", sandbox.path("dirs").display());
        let emperor = tyrant(sandbox, &["--emperor", &pattern, "--emperor-throttle", "100000"]);
        for name in ["own", "sticky/sticky", "mine/mine"] {
            emperor.wait_running(1, name);
        }
        emperor.wait_for("web.ini: it belongs to user");
        emperor.wait_for("runs no file that others in its group may write to");
        emperor.wait_for("loose/loose: cannot start: run ");
        emperor.stop();
    });
}

#[test]
fn a_filesystem_of_a_users_does_not_say_whose_a_file_is() {
    sandboxed(|sandbox| {
        sandbox.append_to("/etc/fuse.conf", "user_allow_other\n");
        let [uid, gid]: [u32; 2] =
            ["-u", "-g"].map(|flag| run("id", &[flag, "user001"]).trim().parse().unwrap());
        let home = sandbox.path("home/eve");
        for name in ["files", "v"] {
            fs::create_dir_all(home.join(name)).unwrap();
            lchown(home.join(name), Some(uid), Some(gid)).unwrap();
        }
        let text = "[uwsgi]\ncommand = sh -c 'echo %n as `id -u`; exec sleep 1000'\n";
        fs::write(home.join("files/a.ini"), text).unwrap();
        let (from, to) = (home.join("files"), home.join("v"));
        let ids = [format!("--reuid={uid}"), format!("--regid={gid}")];
        let claim =
            ["--clear-groups", "bindfs", "-o", "allow_other", "--force-user=4242", "--force-group=4242"];
        let mount = [&ids[0], &ids[1]].map(String::as_str);
        run("setpriv", &[&mount[..], &claim, &[from.to_str().unwrap(), to.to_str().unwrap()]].concat());
        assert_eq!(fs::metadata(to.join("a.ini")).unwrap().uid(), OWNER);
        // Also by a link of root's.
        fs::create_dir_all(VASSALS).unwrap();
        symlink(to.join("a.ini"), vassal_path("link")).unwrap();
        let pattern = format!("glob://{}/home/*/v/*.ini", sandbox.path("").display());
        let emperor = tyrant(sandbox, &["--emperor", &pattern, "--emperor-throttle", "100000"]);
        for name in ["a", "link"] {
            emperor.wait_for(&format!("{name} as {uid}"));
        }
        // Its daemon ends with the last namespace that has it.
        run("umount", &["-l", to.to_str().unwrap()]);
        emperor.stop();
    });
}

#[test]
fn files_of_a_user_that_hang_keep_back_nobody_elses() {
    sandboxed(|sandbox| {
        // One that answers everybody who looks, and gives nobody the content.
        let (faulty, place) = (sandbox.faulty(), sandbox.path("eve"));
        fs::create_dir(&place).unwrap();
        run("sh", &["-c", &faulty.command(place.to_str().unwrap(), "direct")]);
        faulty.behave("hold-data");
        fs::create_dir_all(VASSALS).unwrap();
        fs::set_permissions(VASSALS, Permissions::from_mode(0o1777)).unwrap();
        let names: Vec<_> = (0..10).map(|number| format!("eve{number}")).collect();
        for name in &names {
            symlink(place.join("file"), vassal_path(name)).unwrap();
            lchown(vassal_path(name), Some(5000), Some(5000)).unwrap();
        }
        let emperor = tyrant(sandbox, &["--emperor-throttle", "100000", "--emperor-max-starts", "20"]);
        for name in &names {
            emperor.wait_for(&format!("emperor: {name}: cannot start: read "));
        }
        vassal(sandbox, "alice", (OWNER, OWNER), "command = sleep 1000");
        emperor.wait_running(1, "alice");
        assert_eq!(emperor.lines("emperor: alice: cannot start"), [""; 0]);
        faulty.behave("exit");
        unmount(place.to_str().unwrap());
        emperor.stop();
    });
}

#[test]
fn nobody_leads_to_a_file_of_another_user() {
    sandboxed(|sandbox| {
        let home = sandbox.path("home");
        let owned = |path: &Path, uid| lchown(path, Some(uid), Some(uid)).unwrap();
        let directory = |path: &str, uid| {
            let path = home.join(path);
            fs::create_dir_all(&path).unwrap();
            owned(&path, uid);
        };
        let file = |path: &str| {
            fs::write(home.join(path), "[uwsgi]\ncommand = sleep 1000\n").unwrap();
            owned(&home.join(path), OWNER);
        };
        let link = |path: &str, target: &str, uid| {
            symlink(target, home.join(path)).unwrap();
            owned(&home.join(path), uid);
        };
        for user in ["attacker", "sharer", "owner", "root"] {
            directory(user, 0);
        }
        directory("owner/cfg", OWNER);
        file("owner/cfg/stolen.ini");
        link("attacker/vassals", "../owner/cfg", 5000);
        // A hard link would be the same.
        directory("sharer/vassals", 5000);
        file("sharer/vassals/shared.ini");
        // One's own links, and root's, are fine.
        directory("owner/apps", OWNER);
        file("owner/apps/own.ini");
        link("owner/vassals", "apps", OWNER);
        directory("root/apps", 0);
        file("root/apps/given.ini");
        link("root/vassals", home.join("root/apps").to_str().unwrap(), 0);

        let pattern = format!("glob://{}/*/vassals/*.ini", home.display());
        let nofollow = ["--emperor-tyrant-nofollow", "--emperor-throttle", "100000"];
        let emperor = tyrant(sandbox, &[&["--emperor", &pattern], &nofollow[..]].concat());
        for name in ["attacker/vassals/stolen", "sharer/vassals/shared"] {
            emperor.wait_for(&format!(
                "emperor: {name}: cannot start: run {}: it belongs to user 4242, group 4242, and \
                 emperor-tyrant \
                 runs no file that a directory or link of another user's leads to; ",
                home.join(format!("{name}.ini")).display()
            ));
        }
        for name in ["owner/vassals/own", "root/vassals/given"] {
            let pid = emperor.wait_running(1, name);
            assert_eq!(status(pid, "Uid:"), "4242 4242 4242 4242");
        }
        emperor.stop();
    });
}

#[test]
fn a_user_mounts_a_zip_in_a_namespace_and_recovers() {
    sandboxed(|sandbox| {
        let zip = sandbox.path("app.zip");
        let page = sandbox.file("page", "hello");
        run("zip", &["-jq", zip.to_str().unwrap(), page.to_str().unwrap()]);
        let lines = format!(
            "if-not-reload =\nexec-as-user = fuse-zip -r {} /app\nendif =\nexec-pre-app = cat /app/page\n\
             mountpoint-check = /app\ncommand = sleep 1000",
            zip.display()
        );
        let user: Vec<u32> =
            ["-u", "-g"].map(|flag| run("id", &[flag, "user001"]).trim().parse().unwrap()).to_vec();
        sandbox.append_to("/etc/group", "helpers:x:7777:user001\n");
        vassal(sandbox, "zip", (user[0], user[1]), &lines);
        let emperor = tyrant(sandbox, &["--emperor-tyrant-initgroups"]);
        let pid = emperor.wait_running(1, "zip");
        emperor.wait_for("hello");
        assert_eq!(status(pid, "Groups:"), format!("{} 7777", user[1]));
        let fuse = process::only("fuse-zip").pid;
        run("kill", &["-KILL", &fuse.to_string()]);
        emperor.wait_for("vassal-init[zip]: mountpoint /app lost: ");
        emperor.wait_running(2, "zip");
        emperor.stop();
    });
}

#[test]
fn an_emperor_without_root_needs_four_capabilities() {
    sandboxed(|sandbox| {
        vassal(sandbox, "a", (OWNER, OWNER), "command = sleep 1000");
        vassal(sandbox, "own", (9000, 9000), "command = sleep 1000");
        let emperor = unprivileged(sandbox, "+setuid,+setgid,+kill,+sys_admin", &[]);
        let pid = emperor.wait_running(1, "a");
        assert_eq!(status(emperor.pid(), "Uid:"), "9000 9000 9000 9000");
        assert_eq!(status(pid, "Uid:"), "4242 4242 4242 4242");
        for key in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
            assert_eq!(status(pid, key), "0000000000000000", "{key}");
        }
        emperor.wait_for(
            "own.ini: it belongs to user 9000, group 9000, and emperor-tyrant runs nothing as \
            the emperor's own user",
        );
        // It can end one, too, that does not answer.
        run("kill", &["-STOP", &pid.to_string()]);
        fs::remove_file(vassal_path("a")).unwrap();
        emperor.wait_for("emperor: a: not gone ");
        emperor.wait_for("emperor: a: killed: not gone ");
        emperor.stop();
    });
}

/// The emperor as a user with these capabilities only.
fn unprivileged(sandbox: &Sandbox, capabilities: &str, options: &[&str]) -> Daemon {
    fs::write("/etc/uwsgi/emperor.ini", crate::common::tutorial::EMPEROR_INI).unwrap();
    let wrapper = [
        "setpriv",
        "--reuid",
        "9000",
        "--regid",
        "9000",
        "--clear-groups",
        "--bounding-set",
        &format!("-all,{capabilities}"),
        "--inh-caps",
        &format!("-all,{capabilities}"),
        "--ambient-caps",
        &format!("-all,{capabilities}"),
        "--no-new-privs",
    ];
    let mut command = sandbox.wrapped(&wrapper, "emperor");
    command.args(["/etc/uwsgi/emperor.ini", "--emperor-tyrant"]).args(options);
    sandbox.start("emperor", command)
}

#[test]
fn a_power_of_the_emperors_over_files_shows_a_user_nothing() {
    sandboxed(|sandbox| {
        fs::create_dir_all(VASSALS).unwrap();
        let secret = sandbox.file("secret", "[uwsgi]\nhook-asap = print:the secret\ncommand = sleep 1000\n");
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
        symlink(&secret, vassal_path("nosy")).unwrap();
        lchown(vassal_path("nosy"), Some(OWNER), Some(OWNER)).unwrap();
        for power in ["+dac_read_search", "+dac_override"] {
            let capabilities = format!("+setuid,+setgid,+kill,+sys_admin,{power}");
            let options = ["--emperor-tyrant-nofollow", "--emperor-throttle", "100000"];
            let emperor = unprivileged(sandbox, &capabilities, &options);
            emperor.wait_for(
                "nosy: cannot start: open as its owner /etc/uwsgi/vassals/nosy.ini: Permission denied",
            );
            let effective = status(emperor.pid(), "CapEff:");
            assert_eq!(effective, status(emperor.pid(), "CapPrm:"), "it is not the emperor's any more");
            emperor.stop();
        }
    });
}
