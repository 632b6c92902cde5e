//! Every action of hooks on files and on the vassal itself: what it does, and what its failure says.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{eventually, process, run, sandboxed, until};
use rustix::process::Signal;
use vassal::config::keys::actions::{functions, names};
use vassal::config::plan::Action;
use vassal::config::{Input, load_vassal};
use vassal::mount::request::{Fuse, MountRequest, Umount};
use vassal::world::Machine;

#[test]
fn actions_on_files_do_what_they_say() {
    sandboxed(|sandbox| {
        let dir = sandbox.path("dir");
        fs::create_dir(&dir).unwrap();
        let at = |name: &str| dir.join(name);
        let hooks = |text: &str| {
            let text = text.replace('@', dir.to_str().unwrap());
            assert_eq!(sandbox.said(&format!("{text}\ncommand = true")), [""; 0], "{text}");
        };
        let read = |name: &str| fs::read_to_string(at(name)).unwrap();
        hooks("hook-asap = mkdir:@/new\nhook-asap = mkdir:@/new");
        assert!(at("new").is_dir(), "and one that is there is no failure");
        hooks(
            "hook-as-root = create:@/file\nhook-as-root = writen:@/n one  two\n\
             hook-as-root = write:@/w a=b; c",
        );
        assert_eq!(
            (read("file"), read("n"), read("w")),
            (String::new(), "one  two\n".into(), "a=b; c".into())
        );
        hooks("hook-as-root = append:@/w +\nhook-as-root = appendn:@/w end\nhook-as-root = write:@/n x");
        assert_eq!((read("n"), read("w")), ("x".into(), "a=b; c+end\n".into()));
        hooks("hook-pre-jail = chmod:@/w 4711\nhook-pre-jail = sticky:@/new");
        let mode = |name: &str| fs::metadata(at(name)).unwrap().mode() & 0o7777;
        assert_eq!((mode("w"), mode("new")), (0o4711, 0o1755));
        let user: u32 = run("id", &["-u", "user001"]).trim().parse().unwrap();
        let owner =
            |name: &str| (fs::metadata(at(name)).unwrap().uid(), fs::metadata(at(name)).unwrap().gid());
        hooks(
            "hook-asap = chown:@/w user001 nogroup\nhook-asap = chown:@/n user001\n\
             hook-asap = chown2:@/file 12 34",
        );
        assert_eq!((owner("w").0, owner("n"), owner("file")), (user, (user, 0), (12, 34)));
        hooks(
            "hook-asap = unlink:@/w\nhook-asap = rmdir:@/new\nhook-asap = callret:unlink @/n\n\
             hook-asap = callret:mkdir @/called\nhook-asap = callret:rmdir @/called",
        );
        for name in ["w", "new", "n", "called"] {
            assert!(!at(name).exists(), "{name}");
        }
        hooks(
            "hook-asap = create:@/mask0\nhook-asap = umask:077\nhook-asap = create:@/mask1\n\
             hook-asap = callint:umask 0\nhook-asap = create:@/mask2\nhook-asap = callintret:umask 18\n\
             hook-asap = mkdir:@/mask3",
        );
        assert_eq!(
            (mode("mask0"), mode("mask1"), mode("mask2"), mode("mask3")),
            (0o644, 0o600, 0o666, 0o755)
        );
    });
}

#[test]
fn a_failure_names_phase_place_action_and_path() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("device nodes") {
            return;
        }
        fs::write("/run/file", "").unwrap();
        fs::create_dir_all("/run/full/inside").unwrap();
        symlink("/run/loop", "/run/loop").unwrap();
        for (action, says) in [
            ("mkdir:/run/none/x", "mkdir /run/none/x: No such file or directory (ENOENT)"),
            ("mkdir:/run/file", "mkdir /run/file: File exists (EEXIST)"),
            ("rmdir:/run/full", "rmdir /run/full: Directory not empty (ENOTEMPTY)"),
            ("unlink:/run/none", "unlink /run/none: No such file or directory (ENOENT)"),
            ("unlink:/run/full", "unlink /run/full: Is a directory (EISDIR)"),
            ("create:/run/none/x", "create /run/none/x: No such file or directory (ENOENT)"),
            ("write:/run/full x", "write: open /run/full: Is a directory (EISDIR)"),
            ("append:/proc/version x", "write /proc/version: Input/output error (EIO)"),
            ("write:/dev/full x", "write /dev/full: No space left on device (ENOSPC)"),
            ("writefifo:/run/none x", "writefifo: open /run/none: No such file or directory (ENOENT)"),
            ("writefifo:/run/file x", "writefifo /run/file: not a named pipe"),
            ("spinningfifo:/run/file x", "writefifo /run/file: not a named pipe"),
            ("chmod:/run/none 755", "chmod /run/none: No such file or directory (ENOENT)"),
            ("sticky:/run/none", "sticky /run/none: No such file or directory (ENOENT)"),
            ("chown:/run/none user001", "chown /run/none: No such file or directory (ENOENT)"),
            ("chown:/run/file nobody-knows", "user 'nobody-knows': does not exist"),
            ("chown:/run/file user001 nowhere", "group 'nowhere': does not exist"),
            ("chdir:/run/none", "chdir /run/none: No such file or directory (ENOENT)"),
            ("cd:/run/file", "chdir /run/file: Not a directory (ENOTDIR)"),
            ("chroot:/run/none", "chroot /run/none: No such file or directory (ENOENT)"),
            ("callret:chdir /run/loop", "chdir /run/loop: Too many levels of symbolic links (ELOOP)"),
            ("exec:exit 3", "run exec:exit 3: exited with status 3"),
            ("exec:no-such-program", "run exec:no-such-program: exited with status 127"),
            ("hostname:other", "set the host name other: needs a uts namespace"),
        ] {
            let lines = format!("hook-as-root = print:first\nhook-as-root = {action}");
            sandbox.fails(&lines, &[&format!("in as-root #2: {says}"), "vassal.ini:3:", "hook-as-root)"]);
        }
        assert_eq!(fs::read_to_string("/run/file").unwrap(), "");
    });
}

#[test]
fn what_is_wrong_with_an_action_is_said_before_anything_is_done() {
    sandboxed(|sandbox| {
        for (action, says) in [
            ("mkdri:/x", "unknown action 'mkdri', did you mean 'mkdir'?"),
            ("mkdir", "'mkdir' is not action:argument"),
            ("mkdir:", ""),
            ("chmod:/x 999", "999"),
            ("chmod:/x", ""),
            ("chown:/x", "the user is missing"),
            ("chown2:/x root", "it takes numbers"),
            ("write:/x", "the text is missing"),
            ("putenv:X", "'X' is not NAME=VALUE"),
            ("exit:256", "256"),
            ("umask:8", ""),
            ("callret:setuid 0", "unknown function 'setuid'"),
            ("callret:system rm", "unknown function 'system'"),
            ("callret:umask 0", "write 'callint'"),
            ("callint:chdir 0", "write 'callret'"),
            ("callint:umask 022", "decimal"),
        ] {
            sandbox.is_invalid(&format!("hook-as-root = {action}"), "vassal.ini:3:");
            sandbox.is_invalid(&format!("hook-as-root = {action}"), says);
        }
        sandbox.is_invalid("hook-as-rot = print:x", "did you mean 'hook-as-root'?");
    });
}

#[test]
fn pipes_are_written_to_when_somebody_reads() {
    sandboxed(|sandbox| {
        run("mkfifo", &["/run/fifo"]);
        sandbox.fails(
            "hook-asap = writefifo:/run/fifo x",
            &["asap #1: writefifo: open /run/fifo: No such device or address (ENXIO)"],
        );
        let reader = std::thread::spawn(|| fs::read_to_string("/run/fifo").unwrap());
        sandbox.said("hook-asap = spinningfifo:/run/fifo hello you\ncommand = true");
        assert_eq!(reader.join().unwrap(), "hello you");
        // It waits for the pipe itself too, and not for ever.
        let lines = "hook-timeout = 300ms\nhook-asap = spinningfifo:/run/none x";
        sandbox.fails(lines, &["asap #1: run spinningfifo:/run/none x: still running after 300 ms, killed"]);
        // One that is read already takes a plain write.
        let mut both = fs::OpenOptions::new().read(true).write(true).open("/run/fifo").unwrap();
        sandbox.said("hook-asap = writefifo:/run/fifo again\ncommand = true");
        let mut text = [0; 5];
        both.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"again");
    });
}

#[test]
fn waiting_ends_with_the_kind_of_thing_that_was_asked_for() {
    sandboxed(|sandbox| {
        fs::create_dir("/run/dir").unwrap();
        fs::write("/run/file", "").unwrap();
        let _socket = UnixListener::bind("/run/socket").unwrap();
        let wait = "hook-timeout = 200ms\nhook-asap = wait_for_";
        for kind in ["file", "dir", "socket"] {
            for thing in ["file", "dir", "socket", "none"] {
                let lines = format!("{wait}{kind}:/run/{thing}");
                if kind == thing {
                    // What is there is found in any time.
                    sandbox.said(&format!("{lines}\nhook-timeout = 20s\ncommand = true"));
                } else {
                    let says = format!(
                        "asap #1: run wait_for_{kind}:/run/{thing}: still running after 200 ms, killed"
                    );
                    sandbox.fails(&lines, &[&says]);
                }
            }
            sandbox.said(&format!("{wait}fs:/run/{kind}\nhook-timeout = 20s\ncommand = true"));
        }
        sandbox.fails(&format!("{wait}fs:/run/none"), &["wait_for_fs:/run/none: still running"]);
        // What comes late is found.
        let mut vassal = sandbox.vassal_init("late", "hook-asap = wait_for_file:/run/late\ncommand = true");
        // A child of PID 1, which is one of the process that has made its namespaces.
        let waiting = eventually("the action", || {
            let all = process::named("vassal-init");
            let parent = |process: &process::Process| all.iter().find(|it| it.pid == process.parent);
            all.iter().find(|process| parent(process).and_then(parent).is_some()).cloned()
        });
        process::wait_for_turns(waiting.pid, 3);
        fs::write("/run/late", "").unwrap();
        assert_eq!(vassal.wait(), 0);
    });
}

#[test]
fn what_an_action_changes_lasts() {
    sandboxed(|sandbox| {
        fs::create_dir_all("/run/root/bin").unwrap();
        let lines = "uid = user001\nhook-asap = putenv:A=1 2\nhook-as-user = putenv:A=3\n\
                     exec-asap = echo asap $A\n\
                     hook-as-root = chdir:/run\nhook-as-user = umask:027\n\
                     command = sh -c 'echo \"app $A\"; pwd; umask'";
        let lines = lines.replace("$A", "\"`printenv A`\"");
        let said = sandbox.said(&lines.replace("echo \"app \"`printenv A`\"\"", "echo app `printenv A`"));
        assert_eq!(said, ["asap 1 2", "app 3", "/run", "0027"]);
        let (status, log) = sandbox.outcome(
            "hook-asap = print:one: two\nhook-asap = log:three\nhook-asap = alarm:mail four\ncommand = true",
        );
        assert_eq!(status, 0);
        for line in [
            "vassal-init[vassal]: one: two",
            "vassal-init[vassal]: three",
            "vassal-init[vassal]: alarm mail: four",
        ] {
            assert!(log.lines().any(|found| found == line), "{line}: {log}");
        }
        let (status, log) =
            sandbox.outcome("hook-as-root = exit:7\nexec-as-user = echo never\ncommand = echo never");
        assert_eq!((status, log.lines().any(|line| line == "never")), (7, false), "{log}");
        assert_eq!(sandbox.outcome("hook-as-user = exit:\ncommand = false").0, 0);
    });
}

#[test]
fn the_host_name_is_the_vassals_own() {
    sandboxed(|sandbox| {
        let host = run("hostname", &[]);
        for lines in
            ["hostname = tenant", "hook-asap = hostname:tenant", "hook-asap = callret:sethostname tenant"]
        {
            assert_eq!(
                sandbox.said(&format!("unshare = uts\n{lines}\ncommand = hostname")),
                ["tenant"],
                "{lines}"
            );
            assert_eq!(run("hostname", &[]), host);
            let (status, log) = sandbox.outcome(&format!("{lines}\ncommand = hostname"));
            assert_eq!(status, 71, "{lines}");
            assert!(log.contains("set the host name tenant: needs a uts namespace"), "{log}");
            assert_eq!(run("hostname", &[]), host);
        }
    });
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_its_group() {
    sandboxed(|sandbox| {
        let lines = "hook-timeout = 400ms\nexec-as-root = sleep 1000 & sleep 1001 & wait";
        sandbox.fails(
            lines,
            &["as-root #1: run sleep 1000 & sleep 1001 & wait: still running after 400 ms, killed"],
        );
        // At the exit it is not fatal, and the next one has its turn. What is left then is the group's:
        // nothing.
        let lines = "uid = user001\nhook-timeout = 3s\nunmount-timeout = 30s\n\
                     exec-as-user-atexit = sleep 1000 & sleep 1001 & wait\n\
                     exec-as-user-atexit = while grep -qs '^sleep' /proc/[0-9]*/comm; do :; done; echo none\n\
                     command = true";
        let start = Instant::now();
        assert_eq!(sandbox.said(lines), ["none"]);
        assert!(start.elapsed() < Duration::from_secs(25), "its group was waited for");
        assert!(process::named("sleep").is_empty());
    });
}

#[test]
fn a_hook_that_dies_of_a_signal_fails_the_start_and_is_named() {
    sandboxed(|sandbox| {
        sandbox.fails(
            "exec-pre-jail = kill -SEGV $$",
            &["pre-jail #1: run kill -SEGV $$: ", "killed by SIGSEGV"],
        );
        sandbox.fails("uid = user001\nexec-as-user = kill -KILL $$", &["as-user #1: ", "killed by SIGKILL"]);
    });
}

#[test]
fn private_hooks_are_not_logged() {
    sandboxed(|sandbox| {
        for (action, says) in [
            ("!exec:true s3cret", None),
            ("!exec:false s3cret", Some("as-root #1: run exec: exited with status 1")),
            ("!putenv:A=s3cret", None),
            ("!write:/run/none/s3cret x", Some("as-root #1: run write: No such file or directory (ENOENT)")),
            ("!chown:/run s3cret", Some("as-root #1: run chown: failed; it is private")),
        ] {
            let lines = format!("hook-as-root = {action}\ncommand = true");
            let (status, log) = sandbox.outcome(&lines);
            assert_eq!(status, if says.is_some() { 71 } else { 0 }, "{log}");
            assert!(!log.contains("s3cret"), "{log}");
            assert!(log.contains(says.unwrap_or("as-root #1: ")), "{log}");
        }
        let (_, log) =
            sandbox.outcome("hook-timeout = 200ms\nhook-as-root = !exec:sleep 1000 # s3cret\ncommand = true");
        assert!(
            log.contains("as-root #1: run exec: still running after 200 ms, killed")
                && !log.contains("s3cret"),
            "{log}"
        );
        for wrong in ["!exce:s3cret", "!chmod:/x s3cret", "!s3cret", "!mount:none s3cret"] {
            let (status, log) = sandbox.outcome(&format!("hook-as-root = {wrong}\ncommand = true"));
            assert_eq!(status, 78, "{log}");
            assert!(
                log.contains("vassal.ini:2:1: 'hook-as-root': a mistake in what follows the '!'"),
                "{log}"
            );
            assert!(!log.contains("s3cret"), "{log}");
        }
    });
}

#[test]
fn tolerant_actions_are_logged_and_forgotten() {
    sandboxed(|sandbox| {
        for (lines, says) in [
            ("hook-as-root = safeexec:exit 3", "as-root #1: run safeexec:exit 3: exited with status 3"),
            ("hook-as-root = call:chdir /none", "as-root #1: chdir /none: No such file"),
            ("call-as-root = unlink /none", "as-root #1: unlink /none: No such file"),
        ] {
            let (status, log) = sandbox.outcome(&format!("{lines}\ncommand = echo the app"));
            assert_eq!(status, 0, "{log}");
            assert!(log.lines().any(|line| line.contains(says) && line.ends_with("ignored")), "{log}");
            assert!(log.lines().any(|line| line == "the app"));
        }
    });
}

#[test]
fn phases_and_families_come_in_uwsgis_order_as_their_users() {
    sandboxed(|sandbox| {
        let phases = [
            "as-user",
            "asap",
            "pre-app",
            "in-jail",
            "as-user-atexit",
            "post-jail",
            "as-root",
            "pre-jail",
            "post-app",
        ];
        let mut lines = String::from("uid = user001\n");
        for phase in phases {
            lines += &format!(
                "exec-{phase} = echo {phase} exec `id -un`\nhook-{phase} = exec:echo {phase} hook `id -un`\n"
            );
        }
        let mut expected = Vec::new();
        for (phase, user) in [
            ("asap", "root"),
            ("pre-jail", "root"),
            ("post-jail", "root"),
            ("in-jail", "root"),
            ("as-root", "root"),
            ("as-user", "user001"),
            ("pre-app", "user001"),
            ("post-app", "user001"),
            ("as-user-atexit", "user001"),
        ] {
            expected.extend(["hook", "exec"].map(|family| format!("{phase} {family} {user}")));
        }
        assert_eq!(sandbox.said(&format!("{lines}command = true")), expected);
        // A file that only the user may write to: no hook of it has root's rights.
        sandbox.fails(
            "uid = user001\nhook-as-user = create:/run/roots",
            &["as-user #1: create /run/roots: Permission denied"],
        );
        sandbox.fails(
            "uid = user001\nhook-pre-app = mount:tmpfs none /mnt",
            &["pre-app #1: mount tmpfs on /mnt: Operation not permitted"],
        );
    });
}

#[test]
fn a_link_of_the_tenants_leads_root_to_no_file_of_the_host() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::write("/ns/hosts", "the host's").unwrap();
        symlink("/ns/hosts", "/ns/precise/outside").unwrap();
        symlink("/.old_root/ns", "/ns/precise/old").unwrap();
        let jail = "hook-pre-jail = mount:none /ns/precise /ufs bind";
        for (lines, says) in [
            ("hook-pre-jail = write:/ufs/outside owned", "pre-jail #2: write /ufs/outside: a symbolic link"),
            (
                "hook-pre-jail = chown:/ns/../ufs/outside user001",
                "pre-jail #2: chown /ns/../ufs/outside: a symbolic link",
            ),
            ("hook-as-root = append:/old/hosts owned", "as-root #1: write /old/hosts: a symbolic link"),
            ("hook-as-root = chmod:/old/hosts 666", "as-root #1: chmod /old/hosts: a symbolic link"),
        ] {
            sandbox.fails(&format!("{jail}\npivot_root = /ufs /ufs/.old_root\n{lines}"), &[says]);
        }
        assert_eq!(fs::read_to_string("/ns/hosts").unwrap(), "the host's");
        let lines = format!("{jail}\npivot_root = /ufs /ufs/.old_root\nhook-as-root = write:/plain fine");
        // The tree holds no program; the hook runs before one is missed.
        assert_eq!(sandbox.outcome(&format!("{lines}\ncommand = /none")).0, 127);
        assert_eq!(fs::read_to_string("/ns/precise/plain").unwrap(), "fine");
    });
}

/// An action with arguments of which one leads to one of these paths, for each of its [`paths`] in their
/// order; none for an action that neither changes nor enters anything by a path. `file` is for actions on
/// files, `dir` for those on directories, `new` for what is yet to be made.
pub fn led(name: &str, file: &str, dir: &str, new: &str) -> Vec<String> {
    let arguments = match name {
        "alarm" | "callint" | "callintret" | "exec" | "exit" | "hostname" | "log" | "print" | "putenv"
        | "safeexec" | "umask" => vec![],
        // They only look.
        "wait_for_dir" | "wait_for_file" | "wait_for_fs" | "wait_for_socket" => vec![],
        "append" | "appendn" | "spinningfifo" | "write" | "writefifo" | "writen" => {
            vec![format!("{file} owned")]
        }
        "call" | "callret" => vec![], // below, by their functions
        "chmod" => vec![format!("{file} 666")],
        "chown" => vec![format!("{file} user001")],
        "chown2" => vec![format!("{file} 1 1")],
        "creat" | "create" | "sticky" | "unlink" => vec![file.to_owned()],
        "cd" | "chdir" | "chroot" | "rmdir" | "umount" => vec![dir.to_owned()],
        "mkdir" => vec![new.to_owned()],
        "fuse" => vec![format!("{dir} true {{}}")],
        "mount" => vec![format!("none {dir} /mnt bind"), format!("tmpfs trap {dir}")],
        name => panic!("'{name}' is a new action: say here which paths it touches"),
    };
    arguments.into_iter().map(|arguments| format!("{name}:{arguments}")).collect()
}

/// The paths of an action. Each part of it is named, so that a new one is decided on here. (The layers of an
/// overlay, which are options of a mount, have a test of their own in `astray`.)
fn paths(action: &Action) -> Vec<&Path> {
    match action {
        Action::Chdir(path)
        | Action::Chroot(path)
        | Action::Create(path)
        | Action::Mkdir(path)
        | Action::Rmdir(path)
        | Action::Sticky(path)
        | Action::Unlink(path)
        | Action::Chmod { path, mode: _ }
        | Action::Chown { path, user: _, group: _ }
        | Action::WaitFor { kind: _, path }
        | Action::Write { path, text: _, append: _ }
        | Action::WriteFifo { path, text: _, wait: _ } => vec![path.as_path()],
        Action::Fuse(Fuse { target, flags: _, command: _ }) => vec![target.as_path()],
        Action::Mount(MountRequest { fs_type: _, source, target, flags: _, data: _ }) => {
            vec![Path::new(source), target.as_path()]
        }
        Action::Umount(Umount { target, recursive: _, flags: _ }) => vec![target.as_path()],
        Action::Exec(_)
        | Action::Exit(_)
        | Action::Hostname(_)
        | Action::Print(_)
        | Action::Putenv(..)
        | Action::SafeProc
        | Action::Umask(_) => vec![],
    }
}

#[test]
fn each_path_of_an_action_is_led_somewhere_in_these_tests() {
    for name in names() {
        let lines = led(name, "/led/file", "/led/dir", "/led/new");
        for (index, line) in lines.iter().enumerate() {
            let text = format!("[uwsgi]\nhook-as-root = {line}\ncommand = x\n").into_bytes();
            let input = Input::Text { path: "/v/a.ini".into(), section: None, text };
            let plan =
                load_vassal(&[input], false, &Machine).unwrap_or_else(|report| panic!("{report}")).plan;
            let paths = paths(&plan.hooks[0].action);
            assert_eq!(paths.len(), lines.len(), "{name}: one line of led() for each of {paths:?}");
            assert!(paths[index].starts_with("/led"), "{line} leads {paths:?}");
        }
    }
}

/// The same for a function of libc.
pub fn called(name: &str, file: &str, dir: &str, new: &str) -> Option<String> {
    let path = match name {
        "chdir" | "chroot" | "rmdir" => dir,
        "mkdir" => new,
        "unlink" => file,
        "sethostname" | "umask" => return None,
        name => panic!("'{name}' is a new function: say here which path it touches"),
    };
    Some(format!("callret:{name} {path}"))
}

/// Every action and function there is: one that is added is asked for here.
#[test]
fn no_action_of_roots_is_led_out_of_the_jail_by_a_link_of_the_tenants() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir_all("/ns/host/dir/empty").unwrap();
        fs::write("/ns/host/file", "the host's").unwrap();
        fs::write("/ns/host/dir/file", "the host's").unwrap();
        let host = || {
            let listed = run("find", &["/ns/host", "-printf", "%p %m %U %G %s %T@\n"]);
            (listed, fs::read("/ns/host/file").unwrap(), fs::read("/ns/host/dir/file").unwrap())
        };
        let before = host();
        symlink("/ns/host/file", "/ns/precise/file").unwrap();
        symlink("/ns/host/dir", "/ns/precise/dir").unwrap();
        symlink("/.old_root/ns/host/file", "/ns/precise/old_file").unwrap();
        symlink("/.old_root/ns/host/dir", "/ns/precise/old_dir").unwrap();
        let jail = "hook-pre-jail = mount:none /ns/precise /ufs bind\npivot_root = /ufs /ufs/.old_root\n\
                    command = /none";
        let all = |file: &str, dir: &str, new: &str| {
            let actions = names().into_iter().flat_map(|name| led(name, file, dir, new));
            let functions = functions().into_iter().filter_map(|name| called(name, file, dir, new));
            actions.chain(functions).collect::<Vec<_>>()
        };
        // A link; what is behind one; what a '..' behind one leads to; the same by a path without a
        // beginning.
        for (phase, first, [file, dir, new]) in [
            ("pre-jail", "", ["/ufs/file", "/ufs/dir", "/ufs/dir"]),
            ("pre-jail", "", ["/ufs/dir/file", "/ufs/dir/empty", "/ufs/dir/new"]),
            ("pre-jail", "", ["/ufs/dir/../file", "/ufs/dir/../dir", "/ufs/dir/../new"]),
            ("pre-jail", "hook-pre-jail = chdir:/ufs", ["dir/file", "dir/empty", "dir/new"]),
            ("as-root", "", ["/old_file", "/old_dir", "/old_dir"]),
            ("as-root", "", ["/old_dir/file", "/old_dir/empty", "/old_dir/new"]),
        ] {
            for action in all(file, dir, new) {
                // It takes no path without a beginning.
                if action.starts_with("fuse:dir") {
                    continue;
                }
                // The entry is the tenant's own.
                if action.contains("unlink") && !file.contains("dir/") {
                    continue;
                }
                let lines = format!("{jail}\n{first}\nhook-{phase} = {action}");
                let (status, log) = sandbox.outcome(&lines);
                let is_mount = ["fuse", "mount", "umount"].iter().any(|name| action.starts_with(name));
                assert!(status == 71 && (is_mount || log.contains("a symbolic link")), "{lines}\n{log}");
                assert_eq!(host(), before, "{lines}\n{log}");
            }
        }
    });
}

#[test]
fn an_action_that_waits_does_not_outlive_us() {
    sandboxed(|sandbox| {
        let mut command = sandbox.program("vassal-init");
        command.arg(sandbox.ini("vassal", "hook-asap = wait_for_file:/run/never\ncommand = true"));
        let mut vassal = sandbox.start("vassal", command);
        let (ours, count) = (vassal.pid(), || process::named("vassal-init").len());
        until("it waits", || process::named("vassal-init").iter().any(|process| process.parent == ours));
        vassal.signal(Signal::KILL);
        assert_eq!(vassal.wait(), 137);
        until("it is gone", || count() == 0);
    });
}
