//! An ordinary user's emperor, and vassals in user namespaces of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::tutorial::{PAGE, get};
use crate::common::{Daemon, Sandbox, eventually, process, run, sandboxed, until};
use rustix::process::Signal;

/// The starter of a user's programs: no root, no further groups, and the directory that a session has.
pub const AS_USER: &[&str] = &[
    "/usr/bin/env",
    "XDG_RUNTIME_DIR=/run/user",
    "setpriv",
    "--reuid=user001",
    "--regid=user001",
    "--clear-groups",
];
/// What makes the user an ordinary one: a directory of its own, and IDs besides its own.
const GRANTED: &str = "user001:300000:65536\n";
/// The namespaces of the tutorial, for whoever is not root.
pub const CLONE: &str = "--emperor-use-clone=user,fs,pid";
const APP: &str = "http-socket = :9090\nplugin = psgi\npsgi = /app/myapp.pl\nmountpoint-check = /app";

pub fn user(sandbox: &Sandbox) {
    fs::create_dir_all(VASSALS).unwrap();
    fs::create_dir("/run/user").unwrap();
    chown("/run/user", Some(1001), Some(1001)).unwrap();
    sandbox.grant_ids(GRANTED);
}

/// An emperor of the user's.
pub fn emperor(sandbox: &Sandbox, options: &[&str]) -> Daemon {
    let mut command = sandbox.wrapped(AS_USER, "emperor");
    command.args(["--emperor", VASSALS, CLONE]).args(options);
    sandbox.start("emperor", command)
}

/// What `vassal-init` says and returns, run by the user.
pub fn vassal_init(sandbox: &Sandbox, words: &[&str]) -> (i32, String) {
    let output = sandbox.wrapped(AS_USER, "vassal-init").args(words).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The user of a process, as everybody outside sees it.
fn owner(pid: i32) -> u32 {
    fs::metadata(format!("/proc/{pid}")).unwrap().uid()
}

/// The map of the user namespace of a process.
fn map(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn a_user_serves_a_zip_and_has_it_served_again_when_its_daemon_dies() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        sandbox.zip();
        // Root inside alone, and a user of the host's for the app.
        let mount = "exec-as-root = fuse-zip -r -o allow_other /var/www/app001.zip /app";
        for (uid, maps) in [("root", &[][..]), ("user001", &["--map-users=auto"])] {
            sandbox.vassal("app001", &format!("uid = {uid}\n{mount}\n{APP}"));
            let emperor = emperor(sandbox, maps);
            for round in 1..=2 {
                emperor.wait_running(round, "app001");
                assert_eq!(eventually("a page", get), PAGE);
                let daemon = process::only("fuse-zip").pid;
                assert_eq!((owner(daemon), map(daemon)[0].as_str()), (1001, "0 1001 1"));
                process::signal(daemon, Signal::KILL);
            }
            emperor.wait_running(3, "app001");
            assert_eq!(eventually("a page", get), PAGE);
            assert!(fs::read_dir("/app").unwrap().next().is_none(), "it is mounted out here");
            let status = sandbox.wrapped(AS_USER, "emperor").arg("status").output().unwrap();
            let status = String::from_utf8(status.stdout).unwrap();
            assert!(status.contains("app001  running"), "{status}");
            emperor.stop();
        }
    });
}

#[test]
fn the_demo_shows_the_tutorials_example_to_an_ordinary_user() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("a user beside") {
            return;
        }
        user(sandbox);
        // The ways to the repository and to the programs may be closed to the user.
        let program = sandbox.program("emperor");
        let programs = std::path::Path::new(program.get_program()).parent().unwrap().to_str().unwrap();
        for (there, here) in [(env!("CARGO_MANIFEST_DIR"), "/repository"), (programs, "/programs")] {
            fs::create_dir_all(here).unwrap();
            sandbox.mount(&["--bind", there], here);
        }
        let mut demo = Command::new(AS_USER[0]);
        demo.args(&AS_USER[1..]).env("VASSAL_DIST", "/programs").current_dir("/repository");
        demo.args(["scripts/stage", "scripts/demo", "--on-stage", "zip"]);
        let mut demo = sandbox.start("demo", demo);
        // It has many steps, each with a program of its own to be waited for.
        for step in ["  # cat /etc/uwsgi/emperor.ini", "Hello from inside app001.zip", "processes: none"] {
            demo.wait_for(step);
        }
        let status = demo.wait();
        let log = demo.log();
        assert!(status == 0 && log.contains("Hello from inside app001.zip"), "{status}: {log}");
        for line in ["processes: none", "mounts:    none"] {
            assert!(log.contains(line), "{log}");
        }
    });
}

#[test]
fn every_real_filesystem_mounts_without_a_set_user_id_program() {
    sandboxed(|sandbox| {
        user(sandbox);
        sandbox.zip();
        fs::create_dir("/run/image").unwrap();
        fs::write("/run/image/page.html", PAGE).unwrap();
        run("mksquashfs", &["/run/image", "/run/image.squashfs", "-quiet", "-no-progress"]);
        for directory in ["/run/image", "/run/upper", "/run/work"] {
            fs::create_dir_all(directory).unwrap();
            run("chown", &["-R", "user001:user001", directory]);
        }
        let overlay = "fuse-overlayfs -o lowerdir=/run/image,upperdir=/run/upper,workdir=/run/work";
        let ways = [
            ("fuse-zip", "exec-as-root = fuse-zip -r /var/www/app001.zip /app"),
            ("unionfs-fuse", "exec-as-root = unionfs-fuse -ocow /run/upper=RW:/run/image=RO /app"),
            ("bindfs", "exec-as-root = bindfs /run/image /app"),
            ("squashfuse", "exec-as-root = squashfuse /run/image.squashfs /app"),
            ("squashfuse", "hook-as-user = fuse:/app squashfuse /run/image.squashfs {}"),
            ("fuse-overlayfs", &format!("exec-as-root = {overlay} /app")),
            ("fuse-overlayfs", &format!("hook-as-user = fuse:/app {overlay} {{}}")),
        ];
        for (number, (name, way)) in ways.into_iter().enumerate() {
            let app = "command = sh -c 'cat /app/page.html; exec sleep 1001'";
            sandbox
                .vassal(&format!("v{number}"), &format!("uid = root\n{way}\nmountpoint-check = /app\n{app}"));
            let emperor = emperor(sandbox, &["--emperor-throttle=1"]);
            emperor.wait_running(1, &format!("v{number}"));
            emperor.wait_for(PAGE.trim_end());
            process::signal(process::only(name).pid, Signal::KILL);
            emperor.wait_running(2, &format!("v{number}"));
            emperor.stop();
            fs::remove_file(vassal_path(&format!("v{number}"))).unwrap();
            until("it is gone", || process::named(name).is_empty());
        }
    });
}

#[test]
fn a_user_has_a_root_directory_of_its_own_over_a_tree_that_it_cannot_change() {
    sandboxed(|sandbox| {
        user(sandbox);
        sandbox.copied_tree();
        // A tree that the user has made: the union copies owners.
        run("chown", &["-R", "user001:user001", "/ns"]);
        let lines = "\
            uid = root\n\
            plugins-dir = /ns/precise/opt/uwsgi/plugins\nplugins-dir = /opt/uwsgi/plugins\nplugin = psgi\n\
            hook-pre-jail = callret:chdir /\n\
            hook-pre-jail = exec:unionfs-fuse -ocow,chroot=/ns,default_permissions,allow_other \
                /precise=RO:/cow/user001=RW /ufs\n\
            pivot_root = /ufs /ufs/.old_root\n\
            hook-as-root = mount:proc none /proc\n\
            hook-as-root = mount:none /.old_root/dev /dev rbind\n\
            hook-as-root = umount:/.old_root rec,detach\n\
            http-socket = :9090\npsgi = /var/www/myapp.pl\nmountpoint-check = /";
        sandbox.vassal("cow001", lines);
        let emperor = emperor(sandbox, &[]);
        emperor.wait_running(1, "cow001");
        assert_eq!(eventually("a page", get), "seen: \n");
        let written = fs::metadata("/ns/cow/user001/tmp/written").unwrap();
        assert_eq!(written.uid(), 1001);
        assert!(!fs::exists("/ns/precise/tmp/written").unwrap());
        process::signal(process::only("unionfs-fuse").pid, Signal::KILL);
        emperor.wait_running(2, "cow001");
        assert_eq!(eventually("a page", get), "seen: \n");
        emperor.stop();
    });
}

#[test]
fn ids_that_a_user_is_granted_are_other_users_inside() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        sandbox.vassal("one", "uid = user001\nexec-as-user = sleep 1002 &\ncommand = sleep 1001");
        let emperor = emperor(sandbox, &["--map-users", "auto"]);
        let init = emperor.wait_running(1, "one");
        // PID 1 is the user itself, root inside.
        assert_eq!(
            (owner(init), map(init)),
            (1001, vec!["0 1001 1".to_owned(), "1 300000 65536".to_owned()])
        );
        for process in process::named("sleep") {
            let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
            for id in ["Uid:\t301000\t301000\t301000\t301000", "Gid:\t301000\t301000\t301000\t301000"] {
                assert!(status.contains(id), "{status}");
            }
            assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
        }
        // An upgrade takes it over as it is.
        let upgraded = sandbox.wrapped(AS_USER, "emperor").arg("upgrade").output().unwrap();
        assert!(upgraded.status.success(), "{upgraded:?}");
        assert_eq!(emperor.pid_of("one"), init);
        emperor.stop();
        let words = ["--unshare=user,fs,pid", "--map-users=auto", "--user=33", "--", "id", "-u"];
        assert_eq!(vassal_init(sandbox, &words), (0, "33\n".to_owned()));
        let words = [
            "--unshare=user,pid",
            "--map-users=0:1001:1",
            "--map-users=5:300005:2",
            "--",
            "cat",
            "/proc/self/uid_map",
        ];
        let (status, text) = vassal_init(sandbox, &words);
        let groups =
            ["--unshare=user,pid", "--map-groups=0:1001:1", "--map-groups=7:300007:1", "--user=root:7"];
        let words =
            [&groups[..], &["--", "sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map; id -g"]].concat();
        let maps = vassal_init(sandbox, &words).1.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(maps, "0 1001 1 0 1001 1 7 300007 1 7");
        let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!((status, lines), (0, vec![vec!["0", "1001", "1"], vec!["5", "300005", "2"]]));
    });
}

#[test]
fn what_a_user_is_not_granted_is_told_with_its_cure() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        let says = |words: &[&str], expected: &str| {
            let (status, text) = vassal_init(sandbox, words);
            assert!(status != 0 && text.contains(expected), "{words:?}: {status}: {text}");
            // Once: the process that waits for the IDs inside is silent.
            assert_eq!(text.lines().count(), 1, "{text}");
        };
        let namespaces = "--unshare=user,fs,pid";
        says(
            &[namespaces, "--user=33", "--", "true"],
            "setresgid 33: this user namespace has no 33, only 0: see map-users",
        );
        says(
            &[namespaces, "--map-users=auto", "--user=70000:33", "--", "true"],
            "setresuid 70000: this user namespace has no 70000, only 0, 1 to 65536: see map-users",
        );
        says(
            &[namespaces, "--map-users=0:5:1", "--", "true"],
            "map IDs: newuidmap: uid range [0-1) -> [5-6) not allowed: see /etc/subuid",
        );
        // Not what somebody else has.
        fs::write("/etc/subuid", "ann:165536:65536\nbob:100000:65536\n").unwrap();
        says(
            &[namespaces, "--map-users=auto", "--", "true"],
            "map-users auto: /etc/subuid grants user001 none: as root, usermod --add-subuids 231072-296607 \
             user001",
        );
        fs::write("/etc/subuid", "ann:100000:65536\nuser001:165535:65536\n").unwrap();
        let (_, text) = vassal_init(sandbox, &[namespaces, "--map-users=auto", "--", "true"]);
        assert!(text.contains("/etc/subuid grants 165535 to user001 and to 'ann': "), "{text}");
        fs::write("/etc/subuid", GRANTED).unwrap();
        fs::write("/etc/subgid", "").unwrap();
        says(
            &[namespaces, "--map-users=auto", "--", "true"],
            "map-users auto: /etc/subgid grants user001 none: as root, usermod --add-subgids 100000-165535 \
             user001",
        );
        fs::write("/etc/subuid", "user:1:2\n1002:300000:9\n").unwrap();
        says(&[namespaces, "--map-users=auto", "--", "true"], "/etc/subuid grants user001 none");
        // Nor are numbers that there are not.
        fs::write("/etc/subuid", "user001:4294900000:200000\nuser001:7:0\nuser001:4294967295:1\n").unwrap();
        says(&[namespaces, "--map-users=auto", "--", "true"], "/etc/subuid grants user001 none");
        sandbox.grant_ids("1001:300000:9\nuser001:300000:9\nuser001:300008:70000\n");
        let words = ["--unshare=user,pid", "--map-users=auto", "--user=8", "--", "id", "-u"];
        assert_eq!(vassal_init(sandbox, &words), (0, "8\n".to_owned()), "a user by number");
        // As on a machine without the package.
        fs::create_dir("/run/bin").unwrap();
        for program in ["setpriv", "sh", "true"] {
            std::os::unix::fs::symlink(format!("/usr/bin/{program}"), format!("/run/bin/{program}")).unwrap();
        }
        let mut bare = sandbox.wrapped(AS_USER, "vassal-init");
        let output =
            bare.env("PATH", "/run/bin").args([namespaces, "--map-users=auto", "--", "true"]).output();
        let text = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(text.contains("map IDs: newuidmap: is missing: install the package uidmap"), "{text}");
    });
}

#[test]
fn what_comes_along_with_a_bind_has_its_flags() {
    sandboxed(|sandbox| {
        user(sandbox);
        fs::create_dir_all("/run/src/sub").unwrap();
        sandbox.mount(&["-t", "tmpfs", "-o", "mode=1777", "sandbox"], "/run/src/sub");
        fs::write("/run/src/sub/file", "the host's\n").unwrap();
        fs::set_permissions("/run/src/sub/file", fs::Permissions::from_mode(0o666)).unwrap();
        let script = "cat /mnt/sub/file; echo changed > /mnt/sub/file; cp /bin/true /mnt/sub/";
        let lines = format!(
            "uid = root\nmount-as-root = none /run/src /mnt bind,ro,nosuid\ncommand = sh -c \"{script}\""
        );
        let ini = sandbox.ini("vassal", &lines);
        let (_, text) = vassal_init(sandbox, &["--unshare=user,fs,pid", ini.to_str().unwrap()]);
        assert!(text.contains("the host's") && text.matches("Read-only file system").count() == 2, "{text}");
        assert_eq!(fs::read_to_string("/run/src/sub/file").unwrap(), "the host's\n");
    });
}

#[test]
fn a_user_with_the_umask_002_may_have_links_where_nobody_else_is_inside() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        for (path, mode) in [("/run/user/shared", 0o775), ("/run/user/there", 0o755)] {
            fs::create_dir(path).unwrap();
            chown(path, Some(1001), Some(1001)).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        std::os::unix::fs::symlink("/run/user/there", "/run/user/shared/link").unwrap();
        std::os::unix::fs::lchown("/run/user/shared/link", Some(1001), Some(1001)).unwrap();
        let lines =
            "uid = root\nmount-as-root = tmpfs none /run/user/shared/link\ncommand = sh -c 'echo runs'";
        let ini = sandbox.ini("vassal", lines);
        let ini = ini.to_str().unwrap();
        let (status, text) = vassal_init(sandbox, &["--unshare=user,fs,pid", ini]);
        assert!(status == 0 && text.contains("runs"), "{status}: {text}");
        let refused = "/run/user/shared/link is a symbolic link of user 0, where others can change the way";
        // Other users inside may be in that group.
        let (_, text) = vassal_init(sandbox, &["--unshare=user,fs,pid", "--map-users=auto", ini]);
        assert!(text.contains(refused), "{text}");
        // The group of root of the machine may have members.
        for path in ["/run/user", "/run/user/shared", "/run/user/there"] {
            chown(path, Some(0), Some(0)).unwrap();
        }
        std::os::unix::fs::lchown("/run/user/shared/link", Some(0), Some(0)).unwrap();
        let output = sandbox.program("vassal-init").args(["--unshare=user,fs,pid", ini]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(refused), "{text}");
    });
}

#[test]
fn groups_that_cannot_be_had_or_left_are_no_secret() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("groups of its own") {
            return;
        }
        user(sandbox);
        let run = |words: &[&str]| {
            let mut starter = AS_USER.to_vec();
            starter.pop();
            starter.push("--groups=27,44");
            let output = sandbox.wrapped(&starter, "vassal-init").args(words).output().unwrap();
            (
                output.status.code().unwrap(),
                String::from_utf8([output.stdout, output.stderr].concat()).unwrap(),
            )
        };
        let namespaces = "--unshare=user,fs,pid";
        assert_eq!(run(&[namespaces, "--user=root", "--", "id", "-u"]), (0, "0\n".to_owned()));
        let ini = sandbox.ini("vassal", "uid = root\nadd-gid = 44\ncommand = true");
        let (status, text) = run(&[namespaces, ini.to_str().unwrap()]);
        assert!(status != 0 && text.contains("privilege drop: setgroups: "), "{status}: {text}");
        // Where the kernel lets them go, they go.
        let (status, text) = run(&[namespaces, "--map-users=auto", "--user=33", "--", "id", "-G"]);
        assert_eq!((status, text.as_str()), (0, "33\n"));
    });
}

#[test]
fn a_vassal_that_gets_no_ids_is_a_failed_start_and_no_more() {
    sandboxed(|sandbox| {
        user(sandbox);
        sandbox.vassal("one", "uid = root\ncommand = sleep 1001");
        let emperor = emperor(sandbox, &["--map-users=0:5:1"]);
        let line = emperor.wait_for("emperor: one: setup failed in namespaces: map IDs: newuidmap: ");
        assert!(line.contains("not allowed") && line.contains("next try in"), "{line}");
        emperor.stop();
        // Nor does the emperor of a machine that allows none end.
        let none = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$@\"";
        let wrapper = [AS_USER, &["unshare", "-Ur", "sh", "-c", none, "sh"]].concat();
        let mut command = sandbox.wrapped(&wrapper, "emperor");
        command.args(["--emperor", VASSALS, CLONE]);
        let emperor = sandbox.start("bare", command);
        let line = emperor.wait_for("emperor: one: cannot start: ");
        let expected = "No space left on device (ENOSPC): the sysctl user.max_user_namespaces allows no more \
                        of them; root can change it";
        assert!(line.contains(expected), "{line}");
        emperor.stop();
    });
}

#[test]
fn a_second_map_and_maps_of_nothing_are_refused() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        user(sandbox);
        let own = "unshare = user,fs,pid\nmap-users = auto\nuid = root\ncommand = sleep 1001";
        sandbox.vassal("one", own);
        let emperor = emperor(sandbox, &[]);
        let line = emperor.wait_for("emperor: one: setup failed in unshare: ");
        let expected = "one.ini:3:13: map-users: the emperor has mapped the IDs of this vassal already";
        assert!(line.contains(expected), "{line}");
        emperor.stop();
        // Where no emperor has, it counts.
        let file = vassal_path("one");
        let mut command = sandbox.wrapped(AS_USER, "vassal-init");
        command.arg(&file);
        let mut alone = sandbox.start("alone", command);
        alone.wait_for("app started");
        assert_eq!(map(process::only("sleep").pid).len(), 2);
        alone.signal(Signal::TERM);
        alone.wait();
    });
}

#[test]
fn under_root_each_vassal_has_ids_that_nobody_else_has() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        sandbox.grant_ids("root:1000000:327680\n");
        sandbox.file("secret", "of root's\n");
        fs::set_permissions(sandbox.path("secret"), fs::Permissions::from_mode(0o600)).unwrap();
        let look =
            "exec-as-root = cat /run/scratch/secret > /dev/null 2>&1 && touch /run/scratch/read || true";
        for name in ["a", "b"] {
            sandbox.vassal(name, &format!("uid = root\n{look}\ncommand = sleep 1001"));
        }
        let emperor = sandbox.emperor(&[CLONE, "--map-users=auto"]);
        let maps = ["a", "b"].map(|name| map(emperor.wait_running(1, name)));
        assert_ne!(maps[0], maps[1]);
        for (map, name) in maps.iter().zip(["a", "b"]) {
            let numbers: Vec<u32> = map[0].split(' ').map(|number| number.parse().unwrap()).collect();
            assert_eq!(
                (map.len(), numbers[0], numbers[2], numbers[1] % 65536),
                (1, 0, 65536, 1_000_000 % 65536)
            );
            assert_eq!(owner(emperor.pid_of(name)), numbers[1]);
        }
        assert!(!sandbox.path("read").exists(), "root of a vassal has read what is root's");
        // Whoever is started again has what it had, also after an upgrade, and whoever else runs by then.
        assert!(sandbox.program("emperor").arg("upgrade").output().unwrap().status.success());
        process::signal(emperor.pid_of("a"), Signal::KILL);
        let again = emperor.wait_running(2, "a");
        assert_eq!(map(again), maps[0]);
        // Nobody is given what another one has had, as long as there is something else.
        let order = |word: &str, name: &str| {
            assert!(
                sandbox.program("emperor").args([word, "--wait", name]).output().unwrap().status.success()
            );
        };
        order("stop", "a");
        order("stop", "b");
        order("start", "b");
        order("start", "a");
        assert_eq!(["a", "b"].map(|name| map(emperor.pid_of(name))), maps);
        // Three more are all that the ranges have room for.
        for name in ["c", "d", "e"] {
            sandbox.vassal(name, "uid = user001\ncommand = sleep 1001");
            emperor.wait_running(1, name);
        }
        sandbox.vassal("f", "uid = root\ncommand = sleep 1001");
        let line = emperor.wait_for("emperor: f: cannot start: ");
        assert!(
            line.contains("no share is left: all 5 that /etc/subuid and /etc/subgid grant are in use"),
            "{line}"
        );
        fs::remove_file(vassal_path("c")).unwrap();
        emperor.wait_running(1, "f");
        emperor.stop();
        let mut few = sandbox.program("emperor");
        few.args(["--emperor", VASSALS, CLONE, "--map-users=auto"]);
        sandbox.grant_ids("root:1000000:65535\n");
        let output = few.output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("must grant at least 65536 in one range"), "{text}");
    });
}

#[test]
fn a_tree_of_roots_belongs_to_the_root_of_each_vassal() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("IDs to grant") {
            return;
        }
        sandbox.grant_ids("root:1000000:655360\n");
        fs::create_dir_all("/run/tree/own").unwrap();
        chown("/run/tree/own", Some(1001), Some(1001)).unwrap();
        // As it is, others could execute here what a vassal makes set-user-ID root.
        sandbox.vassal("a", "uid = root\ncommand = sleep 1001");
        let emperor = sandbox.emperor(&[CLONE, "--map-users=auto", "--map-tree=/run/tree"]);
        let line = emperor.wait_for("emperor: a: setup failed in namespaces: map-tree: /run/tree: ");
        assert!(line.contains(": mount --bind -o nosuid /run/tree /run/tree"), "{line}");
        emperor.stop();
        sandbox.mount(&["--bind", "-o", "nosuid", "/run/tree"], "/run/tree");
        // What root of a vassal writes is root's out here, and what its users write theirs.
        let look = "find /run/tree -maxdepth 1 -uid 1001 > /run/tree/seen-%n && touch /run/tree/own/by-%n";
        let set_id = "exec-as-root = cp /usr/bin/id /run/tree/id-%n && chmod 4755 /run/tree/id-%n";
        let hooks = format!("exec-as-root = {look}\n{set_id}\nexec-as-user = touch /run/tree/own/user-%n");
        for name in ["a", "b"] {
            sandbox.vassal(name, &format!("uid = user001\n{hooks}\ncommand = sleep 1001"));
        }
        let emperor = sandbox.emperor(&[CLONE, "--map-users=auto", "--map-tree=/run/tree"]);
        for name in ["a", "b"] {
            emperor.wait_running(1, name);
            let owner = |path: String| fs::metadata(path).unwrap().uid();
            assert_eq!(fs::read_to_string(format!("/run/tree/seen-{name}")).unwrap(), "/run/tree/own\n");
            assert_eq!(owner(format!("/run/tree/seen-{name}")), 0);
            assert_eq!(owner(format!("/run/tree/own/by-{name}")), 0);
            assert_eq!(owner(format!("/run/tree/own/user-{name}")), 1001);
            // Set-user-ID root, and it is of no use here.
            let program = format!("/run/tree/id-{name}");
            let there = fs::metadata(&program).unwrap();
            assert_eq!((there.uid(), there.mode() & 0o7777), (0, 0o4755));
            assert_eq!(run(AS_USER[0], &[&AS_USER[1..], &[&program, "-u"]].concat()), "1001\n");
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert_eq!(mounts.matches(" /run/tree ").count(), 1, "it is mounted out here");
        emperor.stop();
        // A vassal makes such a link in another tree.
        std::os::unix::fs::symlink("/run/tree", "/run/link").unwrap();
        for (tree, expected) in [
            ("/run/link", "map-tree: open /run/link: a symbolic link on the way: write what it leads to"),
            ("/run/link/own", "map-tree: open /run/link/own: a symbolic link on the way"),
            ("/run/none", "open /run/none: No such file or directory (ENOENT)"),
            ("/proc/sys", "map-tree: map the IDs of /proc/sys: its filesystem has no id-mapped mounts"),
        ] {
            let option = format!("--map-tree={tree}");
            let emperor = sandbox.emperor(&[CLONE, "--map-users=auto", &option]);
            let line = emperor.wait_for("emperor: a: setup failed in namespaces: ");
            assert!(line.contains(expected), "{line}");
            emperor.stop();
        }
    });
}

#[test]
fn whoever_has_no_right_to_namespaces_is_told_of_those_of_users() {
    sandboxed(|sandbox| {
        user(sandbox);
        let mut command = sandbox.wrapped(AS_USER, "emperor");
        let output = command.args(["--emperor", VASSALS, "--emperor-use-clone=fs,pid"]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        let expected = "use emperor-use-clone: it takes root, or the capabilities sys_admin (cap), or for an \
                        ordinary user 'user' among the namespaces";
        assert!(text.contains(expected), "{text}");
        let mut tyrant = Command::new(sandbox.program("emperor").get_program());
        let output = tyrant.args(["--emperor", VASSALS, CLONE, "--emperor-tyrant"]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(78) && text.contains("'emperor-tyrant' with 'user'"), "{text}");
        assert_eq!(run("id", &["-u"]), "0\n");
        until("nothing runs", || process::named("emperor").is_empty());
    });
}
