//! Where apps and hooks write to: files that are renamed, full or hang, the journal, and nowhere.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::common::{Daemon, Sandbox, eventually, process, run, sandboxed, unmount, until};
use rustix::process::Signal;

/// What is in a file; nothing if there is none.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A vassal with these lines, to its end: the exit status and the log.
fn ended(sandbox: &Sandbox, lines: &str) -> (i32, String) {
    let mut vassal = sandbox.vassal_init("vassal", lines);
    let status = vassal.wait();
    (status, vassal.log())
}

/// Ends a vassal whose app goes on.
fn stop(mut vassal: Daemon) {
    vassal.signal(Signal::TERM);
    assert_eq!(vassal.wait(), 143, "{}", vassal.log());
}

/// The app of these tests: says a number again and again.
const TICKS: &str = r#"command = sh -c 'i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.01; done'"#;

#[test]
fn app_and_hooks_write_to_their_files_and_pid_1_to_the_stream() {
    sandboxed(|sandbox| {
        let (out, err) = (sandbox.path("out.txt"), sandbox.file("err.txt", "before\n"));
        let lines = "standard-output = file:/run/scratch/out.txt\n\
                     standard-error = file:/run/scratch/err.txt\nuid = user001\n\
                     exec-as-root = echo hook; echo hook errs >&2\n\
                     command = sh -c 'echo app; echo app errs >&2; id -u'";
        let (status, log) = ended(sandbox, lines);
        assert_eq!(
            (status, &*text(&out), &*text(&err)),
            (0, "hook\napp\n1001\n", "before\nhook errs\napp errs\n")
        );
        assert!(log.contains("app started: sh") && !log.contains("errs\n"), "{log}");
        assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(&err).unwrap().permissions().mode() & 0o777, 0o644);
        // Also by name.
        let lines = "standard-output = file:/run/scratch/name.txt\nuid = user001\n\
                     command = sh -c 'echo 1 >/dev/stdout; echo 2 >>/dev/stderr'";
        assert_eq!((ended(sandbox, lines).0, &*text(&sandbox.path("name.txt"))), (0, "1\n2\n"));
        // Without a key of its own, standard error is where standard output is, in the order of the lines.
        let lines =
            "standard-output = file:/run/scratch/both.txt\ncommand = sh -c 'echo 1; echo 2 >&2; echo 3'";
        assert_eq!(ended(sandbox, lines).0, 0);
        assert_eq!(text(&sandbox.path("both.txt")), "1\n2\n3\n");
        let lines =
            "standard-output = null\nstandard-error = inherit\ncommand = sh -c 'echo hidden; echo shown >&2'";
        let (status, log) = ended(sandbox, lines);
        assert!(status == 0 && log.contains("\nshown\n") && !log.contains("hidden\n"), "{log}");
    });
}

#[test]
fn the_last_lines_of_an_app_that_dies_are_in_the_file_and_the_last_one_in_the_log() {
    sandboxed(|sandbox| {
        for round in 1..=10 {
            let lines =
                "standard-output = file:/run/scratch/out.txt\ncommand = sh -c 'seq 20000; kill -9 $$$$'";
            let (status, log) = ended(sandbox, &lines.replace("$$$$", "$$"));
            assert!(status == 137 && log.contains(": command), its last line: 20000\n"), "{log}");
            assert_eq!(text(&sandbox.path("out.txt")).lines().count(), round * 20000);
        }
        let lines = "standard-output = file:/run/scratch/none.txt\ncommand = sh -c 'exit 3'";
        let (status, log) = ended(sandbox, lines);
        assert!(status == 3 && log.contains(": command), it has written nothing\n"), "{log}");
        // A line that is no line, and too long.
        let lines = "standard-output = file:/run/scratch/odd.txt\n\
                     command = sh -c 'printf \"a\\033[2J\\377\"; seq -s . 100; exit 3'";
        let (_, log) = ended(sandbox, lines);
        let line = log.lines().find(|line| line.contains("its last line: a")).unwrap();
        assert!(line.len() < 450 && !line.contains('\u{1b}'), "{line}");
    });
}

#[test]
fn a_renamed_file_is_made_anew_also_after_a_change_of_root() {
    sandboxed(|sandbox| {
        run("mkdir", &["-p", "/run/scratch/logs", "/run/scratch/root/.old_root"]);
        sandbox.mount(&["-t", "tmpfs", "none"], "/run/scratch/logs");
        // Nobody can reach the directory any more, and it does not keep its filesystem from being unmounted.
        let lines = format!(
            "standard-output = file:/run/scratch/logs/out.txt\n\
             umount-asap = /run/scratch/logs\nmount-pre-jail = none / /run/scratch/root rbind\n\
             pivot_root = /run/scratch/root /run/scratch/root/mnt\numount-as-root = /mnt rec,detach\n\
             uid = user001\n{TICKS}"
        );
        let vassal = sandbox.vassal_init("vassal", &lines);
        let (file, old) = (sandbox.path("logs/out.txt"), sandbox.path("logs/out.txt.1"));
        for _ in 0..3 {
            until("the app writes to the file", || text(&file).contains("tick"));
            fs::rename(&file, &old).unwrap();
            let number =
                |line: Option<&str>| line.and_then(|line| line.strip_prefix("tick ")?.parse::<u32>().ok());
            let first = eventually("it is made anew", || number(text(&file).lines().next()));
            assert_eq!(number(text(&old).lines().last()), Some(first - 1), "a line is in neither");
        }
        // One that somebody else makes is taken, a link is not. It takes the place of the file, which would
        // be made anew if it were gone.
        fs::remove_file(&old).unwrap();
        fs::hard_link(&file, &old).unwrap();
        symlink("/run/scratch/elsewhere", sandbox.path("logs/link")).unwrap();
        fs::rename(sandbox.path("logs/link"), &file).unwrap();
        let length = text(&old).len();
        until("it goes on with the old one", || text(&old).len() > length);
        assert!(!sandbox.path("elsewhere").exists());
        stop(vassal);
    });
}

#[test]
fn a_place_that_cannot_be_had_is_told_and_the_app_runs() {
    sandboxed(|sandbox| {
        run("mkfifo", &["/run/scratch/fifo"]);
        run("mkdir", &["/run/scratch/directory"]);
        symlink("/run/scratch/target", sandbox.path("link")).unwrap();
        symlink("/run/scratch/directory", sandbox.path("linked")).unwrap();
        run("chown", &["-h", "user001", "/run/scratch/linked"]);
        let hanging = sandbox.hanging();
        for (place, why) in [
            ("file:/run/scratch/fifo", "it is no regular file"),
            ("file:/run/scratch/directory", "Is a directory (EISDIR)"),
            ("file:/run/scratch/link", "it is a symbolic link: write what it leads to"),
            ("file:/run/scratch/linked/out.txt", "link"),
            ("file:/run/scratch/none/out.txt", "No such file or directory (ENOENT)"),
            ("file:/dev/null", "it is no regular file"),
            ("file:/run/scratch/mount/file", "does its filesystem answer?"),
            ("journal", "connect to the journal at /run/systemd/journal/stdout: No such file"),
        ] {
            let (status, log) = ended(sandbox, &format!("standard-output = {place}\ncommand = echo said"));
            let told = log.lines().find(|line| line.contains("vassal.ini:2:19: standard-output: "));
            let told = told.unwrap_or_else(|| panic!("{place}: {log}"));
            assert!(told.contains(why) && told.ends_with(": the output goes where ours goes"), "{told}");
            assert!(status == 0 && log.contains("\nsaid\n"), "{place}: {log}");
            // Who hangs over the file is waited for neither then nor at the end.
            assert!(!log.contains("processes are left"), "{place}: {log}");
        }
        assert!(!sandbox.path("target").exists() && text(&sandbox.path("directory/out.txt")).is_empty());
        hanging.end();
    });
}

#[test]
fn a_user_does_not_lead_root_elsewhere_by_a_file_of_his() {
    sandboxed(|sandbox| {
        let secret = sandbox.file("secret", "nobody adds to this\n");
        run("install", &["-d", "-o", "user001", "-m", "755", "/run/scratch/home"]);
        let file = sandbox.path("home/out.txt");
        let lines = format!("standard-output = file:/run/scratch/home/out.txt\n{TICKS}");
        let vassal = sandbox.vassal_init("vassal", &lines);
        until("the app writes to the file", || text(&file).contains("tick"));
        // He may have any file of his directory renamed, and link to one of root's in its place.
        for link in ["ln", "ln -s"] {
            let swap = format!(
                "{link} /run/scratch/secret /run/scratch/home/x && mv -f /run/scratch/home/x {}",
                file.display()
            );
            run("sh", &["-c", &swap]);
            let before = process::slept(process::only("vassal-log").pid);
            until("it has looked again", || process::slept(process::only("vassal-log").pid) > before + 5);
            assert_eq!(text(&secret), "nobody adds to this\n", "{link}");
        }
        stop(vassal);
    });
}

#[test]
fn a_full_disk_does_not_keep_the_app_and_what_is_lost_is_counted() {
    sandboxed(|sandbox| {
        run("mkdir", &["/run/scratch/small"]);
        sandbox.mount(&["-t", "tmpfs", "-o", "size=64k", "none"], "/run/scratch/small");
        let lines = "standard-output = file:/run/scratch/small/out.txt\n\
                     command = sh -c 'seq 100000; echo done >/run/scratch/done; \
                     until [ -e /run/scratch/freed ]; do sleep 0.01; done; echo again; echo once; exit 3'";
        let mut vassal = sandbox.vassal_init("vassal", lines);
        until("the app has written all", || text(&sandbox.path("done")) == "done\n");
        process::wait_asleep(process::only("vassal-log").pid);
        let file = sandbox.path("small/out.txt");
        assert!(text(&file).starts_with("1\n2\n3\n") && fs::metadata(&file).unwrap().len() <= 65536);
        fs::write(&file, "").unwrap();
        sandbox.file("freed", "");
        assert_eq!(vassal.wait(), 3);
        let text = text(&file);
        assert!(
            text.contains(" log lines lost: they could not be written\n") && text.ends_with("again\nonce\n"),
            "{text}"
        );
        assert!(vassal.log().contains("its last line: once"), "{}", vassal.log());
    });
}

#[test]
fn a_filesystem_that_hangs_does_not_keep_the_app() {
    sandboxed(|sandbox| {
        run("mkdir", &["/run/scratch/branch", "/run/scratch/union"]);
        run("unionfs-fuse", &["-o", "allow_other", "/run/scratch/branch=RW", "/run/scratch/union"]);
        let server = process::only("unionfs-fuse").pid;
        let lines = "standard-output = file:/run/scratch/union/out.txt\n\
                     command = sh -c 'while :; do echo line; echo >>/run/scratch/count; done'";
        let vassal = sandbox.vassal_init("vassal", lines);
        let (file, count) = (sandbox.path("branch/out.txt"), sandbox.path("count"));
        until("the app writes to the file", || text(&file).contains("line"));
        process::signal(server, Signal::STOP);
        let lines = || fs::metadata(&count).unwrap().len();
        let start = lines();
        // More than both pipes hold.
        until("the app goes on", || lines() > start + 60_000);
        process::signal(server, Signal::CONT);
        until("what was lost is told", || text(&file).contains(" log lines lost"));
        until("it goes on behind that", || text(&file).lines().last().is_some_and(|line| line == "line"));
        // It is made anew there as well.
        fs::rename(&file, sandbox.path("branch/old")).unwrap();
        until("it is made anew", || text(&file).contains("line"));
        stop(vassal);
        until("the writer is gone", || process::named("vassal-log").is_empty());
        unmount("/run/scratch/union");
    });
}

#[test]
fn the_journal_gets_lines_under_the_name_of_the_vassal() {
    sandboxed(|sandbox| {
        fs::create_dir_all("/run/systemd/journal").unwrap();
        let journal = UnixListener::bind("/run/systemd/journal/stdout").unwrap();
        let mut vassal = sandbox.vassal_init(
            "vassal",
            "uid = user001\nstandard-output = journal\ncommand = sh -c 'echo said; exit 3'",
        );
        let mut stream = BufReader::new(journal.accept().unwrap().0);
        let header: Vec<_> = (0..7)
            .map(|_| {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                line
            })
            .collect();
        assert_eq!(header, ["vassal\n", "\n", "6\n", "1\n", "0\n", "0\n", "0\n"]);
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        assert_eq!((vassal.wait(), &*rest), (3, "said\n"));
        assert!(vassal.log().contains(": command), see: journalctl -t 'vassal'"), "{}", vassal.log());
        fs::remove_dir_all("/run/systemd").unwrap();
    });
}

#[test]
fn a_relay_holds_up_neither_the_end_nor_the_end_of_what_is_left() {
    sandboxed(|sandbox| {
        let file = sandbox.path("out.txt");
        let option = "--standard-output=file:/run/scratch/out.txt";
        // With and without a pid namespace, and where nobody but root exists; the app leaves one behind that
        // ends by SIGTERM.
        let app = "echo first; (trap 'echo term; exit' TERM; touch /run/scratch/left; \
                   while :; do sleep 0.01; done) 2>/dev/null & \
                   until [ -e /run/scratch/left ]; do sleep 0.01; done; rm /run/scratch/left; exit 7";
        for unshare in [&["--unshare", "fs,pid"][..], &["--unshare", "user,fs,pid"], &[]] {
            // What is left has two seconds, which a relay would use up each time.
            until("an end within two seconds", || {
                let mut command = sandbox.program("vassal-init");
                command.args(unshare).args([option, "--", "sh", "-c", app]);
                let mut command = sandbox.start("command", command);
                let start = Instant::now();
                assert_eq!(command.wait(), 7, "{}", command.log());
                let took = start.elapsed();
                assert_eq!((command.log().as_str(), &*text(&file)), ("", "first\nterm\n"));
                until("the relay is gone", || process::named("vassal-log").is_empty());
                fs::remove_file(&file).unwrap();
                took < Duration::from_secs(2)
            });
        }
    });
}

#[test]
fn a_relay_keeps_what_it_needs_and_nothing_else() {
    sandboxed(|sandbox| {
        let vassal =
            sandbox.vassal_init("vassal", &format!("standard-output = file:/run/scratch/out.txt\n{TICKS}"));
        until("the app writes", || text(&sandbox.path("out.txt")).contains("tick"));
        let relay = process::only("vassal-log").pid;
        let open: Vec<_> = fs::read_dir(format!("/proc/{relay}/fd"))
            .unwrap()
            .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
            .collect();
        let others: Vec<_> =
            open.iter().filter(|name| !name.starts_with("pipe:") && !name.starts_with("socket:")).collect();
        assert!(open.len() == 6 && others.iter().all(|name| name.starts_with('/')), "{open:?}");
        let status = fs::read_to_string(format!("/proc/{relay}/status")).unwrap();
        let held = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap();
        assert!(["0000000000000002", "0000000000000000"].contains(&held("CapPrm:")), "{status}");
        // It goes on when it is asked to end: only PID 1 ends it.
        process::signal(relay, Signal::TERM);
        let length = text(&sandbox.path("out.txt")).len();
        until("it goes on", || text(&sandbox.path("out.txt")).len() > length);
        stop(vassal);
    });
}

/// uWSGI as user001 with these lines, in a directory of root's.
fn uwsgi(sandbox: &Sandbox, lines: &str) -> Daemon {
    let lines = format!("uid = user001\nchdir = /\nmaster = true\nhttp-socket = 127.0.0.1:9101\n{lines}");
    sandbox.vassal_init("vassal", &lines)
}

#[test]
fn uwsgi_has_the_files_that_it_would_open_as_root() {
    sandboxed(|sandbox| {
        run("mkdir", &["-m", "755", "/run/scratch/logs", "/run/scratch/logs/spool"]);
        let there = sandbox.file("logs/there", "");
        fs::set_permissions(&there, fs::Permissions::from_mode(0o640)).unwrap();
        // PID 1 writes the log, as uWSGI does in the directory of the file; it is followed over a rename.
        for (logto, file) in
            [("/run/scratch/logs/a.log", "logs/a.log"), ("rel.log", "rel.log"), ("logs/there", "logs/there")]
        {
            let path = sandbox.path(file);
            let mut command = sandbox.program("vassal-init");
            let lines = "uid = user001\nchdir = /\nmaster = true\nhttp-socket = 127.0.0.1:9101";
            let ini = sandbox.ini("vassal", &format!("{lines}\nlogto = {logto}"));
            command.args(["--unshare", "fs,pid"]).arg(ini).current_dir("/run/scratch");
            let vassal = sandbox.start("vassal", command);
            until(file, || text(&path).contains("spawned uWSGI master process"));
            assert_eq!((fs::metadata(&path).unwrap().uid(), text(&path).contains("denied")), (0, false));
            stop_uwsgi(vassal);
        }
        // Of the others uWSGI itself makes more: they are made for its user.
        for (lines, file, mode) in [
            ("pidfile = /run/scratch/logs/pid", "logs/pid", 0o644),
            ("daemonize = /run/scratch/logs/d.log", "logs/d.log", 0o640),
            ("log-maxsize = 100000\nlogto = /run/scratch/logs/m.log", "logs/m.log", 0o640),
            ("standard-output = null\nlogto = /run/scratch/logs/n.log", "logs/n.log", 0o640),
        ] {
            let vassal = uwsgi(sandbox, lines);
            let path = sandbox.path(file);
            until(file, || !text(&path).is_empty());
            let there = fs::metadata(&path).unwrap();
            assert_eq!((there.uid(), there.mode() & 0o777), (1001, mode), "{file}");
            assert_eq!(vassal.lines("have it belong"), [""; 0]);
            until(file, || !process::named("uwsgi").is_empty() || !process::named("uwsgi-core").is_empty());
            stop_uwsgi(vassal);
        }
        // What is there and root's stays so, and is told before uWSGI ends.
        for (key, before, name) in [
            ("pidfile", "", "there"),
            ("daemonize", "", "there"),
            ("spooler", "", "spool"),
            ("https-socket", ":9102,", "there"),
        ] {
            let mut vassal = uwsgi(sandbox, &format!("{key} = {before}/run/scratch/logs/{name}"));
            assert_eq!(vassal.wait(), 1, "{key}");
            let says = format!(
                "vassal.ini:6:{}: {key}: uWSGI opens /run/scratch/logs/{name} as user 1001: \
                 Permission denied (EACCES): have it belong to that user",
                key.len() + 4
            );
            assert!(vassal.log().contains(&says), "{says}\n{}", vassal.log());
        }
    });
}

/// Ends uWSGI.
fn stop_uwsgi(mut vassal: Daemon) {
    vassal.signal(Signal::TERM);
    vassal.wait();
}

#[test]
fn a_command_that_outlives_its_init_goes_on_to_write() {
    sandboxed(|sandbox| {
        let file = sandbox.path("out.txt");
        let mut command = sandbox.program("vassal-init");
        let ticks = "while :; do echo tick; sleep 0.01; done";
        command.args(["--standard-output=file:/run/scratch/out.txt", "--", "sh", "-c", ticks]);
        let mut init = sandbox.start("command", command);
        until("it writes", || text(&file).contains("tick"));
        let shell = process::only("sh").pid;
        init.signal(Signal::KILL);
        assert_eq!(init.wait(), 137);
        let length = text(&file).len();
        until("it goes on", || text(&file).len() > length + 50);
        process::signal(shell, Signal::KILL);
        until("the relay ends with it", || process::named("vassal-log").is_empty());
    });
}
