//! What an emperor must survive: vassals that crash all the time, no descriptors left, more events than a
//! queue takes.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::cgroups::{self, OutermostCgroup};
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Sandbox, process, run, sandboxed, unmount, until};
use rustix::process::Signal;

/// A vassal that runs until it is asked to stop.
const STEADY: &str = "command = sleep 1000";

/// Less than who is put off behind others has to wait, and far more than anything takes.
const SOON: Duration = Duration::from_secs(15);

fn status(sandbox: &Sandbox) -> String {
    let output = sandbox.program("emperor").arg("status").output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

#[test]
fn a_crash_loop_of_20_vassals_delays_none_of_the_other_180() {
    sandboxed(|sandbox| {
        for number in 0..200 {
            // Every tenth, among the others.
            let app = if number % 10 == 0 { "command = false" } else { STEADY };
            sandbox.vassal(&format!("v{number:03}"), app);
        }
        let emperor = sandbox.emperor(&["--emperor-throttle", "1", "--emperor-max-throttle", "50"]);
        let crashes = || emperor.lines(": app exited with status 1; ").len();
        until("180 run", || status(sandbox).matches("  running  ").count() == 180);
        // They go on crashing while one after another of the others is served.
        for number in [1, 77, 199] {
            let name = format!("v{number:03}");
            let (before, start) = (crashes(), Instant::now());
            run("touch", &[vassal_path(&name).to_str().unwrap()]);
            emperor.wait_for(&format!("emperor: {name}: reloaded after "));
            assert!(start.elapsed() < SOON, "{name}: {:?}", start.elapsed());
            until("they crash on", || crashes() > before + 20);
        }
        let start = Instant::now();
        sandbox.vassal("late", STEADY);
        emperor.wait_running(1, "late");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        until("all have executed their program", || process::named("sleep").len() == 181);
        for number in (0..200).filter(|number| number % 10 != 0) {
            assert_eq!(
                emperor.lines(&format!("emperor: v{number:03}: started (pid ")).len(),
                1,
                "v{number:03}"
            );
        }
        emperor.stop();
    });
}

#[test]
fn without_descriptors_for_all_some_wait_and_the_emperor_still_answers() {
    sandboxed(|sandbox| {
        for number in 0..20 {
            sandbox.vassal(&format!("v{number:02}"), STEADY);
        }
        let mut command = sandbox.wrapped(&["bash", "-c", "ulimit -n 70; exec \"$@\"", "bash"], "emperor");
        command.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
        command.args(["--emperor-throttle", "100", "--emperor-max-throttle", "100"]);
        let emperor = sandbox.start("emperor", command);
        // 70 less 60 of its own.
        let limit = "at most 10 instances: the limit is 70 open files (setrlimit(2), systemd's LimitNOFILE)";
        emperor.wait_for(&format!("emperor: {limit}"));
        until("10 run", || status(sandbox).matches("  running  ").count() == 10);
        let line = emperor.wait_for("emperor: v10: cannot start: ");
        let why = "open a descriptor: Too many open files (EMFILE): the limit for all vassals is 70 \
            (setrlimit(2), systemd's LimitNOFILE)";
        assert!(line.ends_with(&format!("{why}; next try in 100 ms")), "{line}");
        // The others say so only here: in the log they would again and again.
        until("the others have been refused", || status(sandbox).matches("(EMFILE)").count() == 10);
        assert_eq!(emperor.lines(": cannot start: ").len(), 1);
        // All its clients at a time, and more.
        let clients: Vec<_> = (0..40).map(|_| UnixStream::connect("/run/emperor.sock").unwrap()).collect();
        assert_eq!(status(sandbox).lines().count(), 24);
        assert!(status(sandbox).ends_with(&format!("\n10 of {limit}\n")));
        let mut as_json = sandbox.program("emperor");
        let as_json = String::from_utf8(as_json.args(["status", "--json"]).output().unwrap().stdout).unwrap();
        assert!(as_json.contains("\"instances\":10,\"instances_max\":10,\"limit\":\"70 open files ("));
        // At four fifths, before the first that finds no room.
        let log = emperor.log();
        assert_eq!(log.matches(" of at most ").count(), 1);
        // Several may have started since it looked.
        let told = (8..=10).find_map(|count| log.find(&format!("emperor: {count} of {limit}"))).unwrap();
        assert!(told < log.find("v10: cannot start: ").unwrap());
        drop(clients);
        let files = fs::read_dir(format!("/proc/{}/fd", emperor.pid())).unwrap().count();
        assert!(files < 70, "{files}");
        for number in 0..10 {
            fs::remove_file(vassal_path(&format!("v{number:02}"))).unwrap();
        }
        until("the others run", || {
            let table = status(sandbox);
            table.matches("  running  ").count() == 10 && table.contains("v19")
        });
        emperor.wait_for(": it was the last of up to 10 that could not start");
        assert_eq!(emperor.lines(": cannot start: ").len(), 1);
        emperor.stop();
    });
}

/// The sizes of the tables of descriptors of all PID 1s.
fn tables() -> Vec<u64> {
    let size = |process: &process::Process| {
        let status = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
        line.unwrap().trim().parse().unwrap()
    };
    process::named("vassal-init").iter().map(size).collect()
}

#[test]
fn the_table_of_an_instance_does_not_grow_with_that_of_the_emperor() {
    sandboxed(|sandbox| {
        let names: Vec<_> = (0..150).map(|number| format!("v{number:03}")).collect();
        for name in &names {
            sandbox.vassal(name, STEADY);
        }
        let is_up = || status(sandbox).matches("  running  ").count() == names.len();
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        until("all run", is_up);
        assert_eq!(tables(), vec![64; names.len()]);
        // Nor for those that start after an upgrade, which keeps most numbers in use.
        assert!(sandbox.program("emperor").arg("upgrade").status().unwrap().success());
        for name in &names[..40] {
            process::signal(emperor.pid_of(name), Signal::KILL);
        }
        for name in &names[..40] {
            emperor.wait_running(2, name);
        }
        assert_eq!(tables(), vec![64; names.len()]);
        emperor.stop();
    });
}

#[test]
fn without_close_range_an_instance_is_created_all_the_same() {
    sandboxed(|sandbox| {
        for number in 0..80 {
            sandbox.vassal(&format!("v{number:03}"), STEADY);
        }
        let mut command = sandbox.filtered(&[libc::SYS_close_range], libc::ENOSYS, "emperor");
        command.args(["--emperor", VASSALS, "--emperor-use-clone", "fs,pid"]);
        let emperor = sandbox.start("emperor", command);
        until("all run", || status(sandbox).matches("  running  ").count() == 80);
        assert!(tables().iter().any(|size| *size > 64), "it was shared");
        for process in process::named("vassal-init") {
            let files = fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap().count();
            assert!(files < 16, "{files}");
        }
        emperor.stop();
    });
}

/// Sets a limit of a process, the soft one.
fn limit(pid: i32, what: &str) {
    run("prlimit", &["-p", &pid.to_string(), what]);
}

#[test]
fn without_memory_both_programs_wait_until_there_is_some() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "app");
        let scout = process::only("emperor-scout").pid;
        limit(scout, "--as=1048576:");
        // All of them are listed, and refused.
        for number in 0..3000 {
            let path = vassal_path(&format!("{}{number}", "x".repeat(200)));
            std::os::unix::fs::symlink("/nonexistent", path).unwrap();
        }
        emperor.wait_for("emperor: out of memory: waiting until there is some");
        limit(scout, "--as=unlimited:");
        emperor.wait_for("emperor: there is memory again: going on");

        limit(init, "--as=1048576:");
        fs::write(vassal_path("app"), format!("[uwsgi]\n{STEADY}\n# {}\n", "x".repeat(900_000))).unwrap();
        emperor.wait_for("vassal-init[app]: out of memory: waiting until there is some");
        limit(init, "--as=unlimited:");
        emperor.wait_for("vassal-init[app]: there is memory again: going on");
        emperor.wait_for("emperor: app: reloaded after ");
        assert_eq!(emperor.pid_of("app"), init);
        emperor.stop();
    });
}

#[test]
fn sockets_that_are_kept_leave_the_emperor_its_descriptors() {
    sandboxed(|sandbox| {
        fs::create_dir_all(VASSALS).unwrap();
        let mut command = sandbox.wrapped(&["bash", "-c", "ulimit -n 78; exec \"$@\"", "bash"], "emperor");
        command.args(["--emperor", VASSALS, "--emperor-on-demand-extension", ".sock"]);
        command.args(["--emperor-throttle", "100", "--emperor-max-throttle", "100"]);
        let emperor = sandbox.start("emperor", command);
        let listens = |first: u16| {
            let lines = (first..first + 12).map(|port| format!("listen = 127.0.0.1:{port}\n"));
            lines.collect::<String>() + STEADY
        };
        // 78 less 60 of its own, less one for each: of 24 sockets 16 are kept.
        sandbox.vassal("a", &listens(9000));
        emperor.wait_running(1, "a");
        sandbox.vassal("b", &listens(9100));
        emperor.wait_running(1, "b");
        let why = "Too many open files (EMFILE): the limit for all vassals is 78 (setrlimit(2), \
            systemd's LimitNOFILE)";
        emperor.wait_for(&format!("emperor: b: 127.0.0.1:9111 is not kept: open a descriptor: {why}"));
        assert_eq!(emperor.lines(" is not kept: ").len(), 8);
        // Then there is room for neither a process nor a socket of our own.
        sandbox.vassal("c", STEADY);
        emperor.wait_for(&format!("emperor: c: cannot start: open a descriptor: {why}"));
        fs::write(vassal_path("d").with_extension("ini.sock"), "127.0.0.1:9200").unwrap();
        sandbox.vassal("d", STEADY);
        until("d has none", || status(sandbox).matches(why).count() == 2);
        let clients: Vec<_> = (0..40).map(|_| UnixStream::connect("/run/emperor.sock").unwrap()).collect();
        assert_eq!(status(sandbox).lines().count(), 7);
        drop(clients);
        let files = fs::read_dir(format!("/proc/{}/fd", emperor.pid())).unwrap().count();
        assert!(files < 78, "{files}");
        // What a vassal leaves is there for others.
        fs::remove_file(vassal_path("a")).unwrap();
        emperor.wait_running(1, "c");
        emperor.wait_for("emperor: d: waiting for a connection to 127.0.0.1:9200");
        emperor.stop();
    });
}

#[test]
fn an_emperor_that_cannot_wait_for_events_goes_on() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", STEADY);
        let emperor = sandbox.emperor(&[]);
        let init = emperor.wait_running(1, "app");
        limit(emperor.pid(), "--nofile=3:");
        emperor.signal(Signal::USR1);
        emperor
            .wait_for("emperor: wait for events: Invalid argument (EINVAL): looking for them every 100 ms");
        limit(emperor.pid(), "--nofile=1024:");
        until("it answers", || status(sandbox).contains("running"));
        assert_eq!(emperor.pid_of("app"), init);
        emperor.stop();
    });
}

#[test]
fn more_events_than_the_queue_takes_lose_nothing() {
    sandboxed(|sandbox| {
        sandbox.vassal("early", STEADY);
        sandbox.vassal("gone", STEADY);
        let emperor = sandbox.emperor(&["--emperor-freq", "3600"]);
        for name in ["early", "gone"] {
            emperor.wait_running(1, name);
        }
        let limit: usize =
            fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        emperor.signal(Signal::STOP);
        let [a, b] = ["a.ini.part", "b.ini.part"].map(|name| format!("{VASSALS}/{name}"));
        fs::write(&a, "").unwrap();
        // Two events each.
        for _ in 0..limit / 4 + 16 {
            fs::rename(&a, &b).unwrap();
            fs::rename(&b, &a).unwrap();
        }
        // Nobody will tell of these.
        sandbox.vassal("late", STEADY);
        fs::remove_file(vassal_path("gone")).unwrap();
        run("touch", &[vassal_path("early").to_str().unwrap()]);
        emperor.signal(Signal::CONT);
        emperor.wait_running(1, "late");
        emperor.wait_for("emperor: gone: file removed: stopping");
        emperor.wait_for("emperor: early: reloaded after ");
        emperor.stop();
    });
}

#[test]
fn closed_standard_descriptors_are_filled() {
    sandboxed(|sandbox| {
        sandbox.vassal("steady", STEADY);
        let mut command = sandbox.wrapped(&["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"], "emperor");
        command.args(["--emperor", VASSALS]);
        let emperor = sandbox.start("emperor", command);
        until("it runs", || status(sandbox).contains("  running  "));
        for number in 0..3 {
            let what = fs::read_link(format!("/proc/{}/fd/{number}", emperor.pid())).unwrap();
            assert_eq!(what.to_str(), Some("/dev/null"), "{number}");
        }
        emperor.stop();
    });
}

#[test]
fn a_panic_of_the_emperor_is_in_its_log() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let outermost = OutermostCgroup::open();
        let group = cgroups::of_test(&outermost.path, "panic");
        sandbox.vassal("a", "command = sleep 1000");
        // The cgroup of an instance that has ended is busy; std's sleep panics when the kernel fails it.
        let faults = ["inject=unlinkat:error=EBUSY:when=2+", "inject=clock_nanosleep,nanosleep:error=EINVAL"];
        let strace = ["strace", "-D", "-qq", "-o", "/dev/null", "-e", faults[0], "-e", faults[1]];
        let mut command = sandbox.wrapped(&strace, "emperor");
        command.args(["--emperor", "/etc/uwsgi/vassals", "--emperor-use-clone", "fs,pid"]);
        command.args(["--emperor-cgroup", group.to_str().unwrap()]);
        let mut emperor = sandbox.start("emperor", command);
        let pid = emperor.wait_running(1, "a");
        run("kill", &["-KILL", &pid.to_string()]);
        assert_eq!(emperor.wait(), 134);
        let line = emperor.wait_for(": this is a mistake in the program, which aborts");
        assert!(line.starts_with("emperor: panic at "), "{line}");
        cgroups::remove(&group);
    });
}

#[test]
fn a_start_whose_file_opens_and_is_never_read_says_so_and_ends_in_time() {
    sandboxed(|sandbox| {
        let (faulty, place) = (sandbox.faulty(), sandbox.path("mount").display().to_string());
        run("mkdir", &[&place]);
        run("sh", &["-c", &faulty.command(&place, "direct")]);
        faulty.behave("hold-data");
        sandbox.vassal("include", &format!("include = {place}/file\n{STEADY}"));
        let emperor = sandbox.emperor(&[]);
        let line =
            emperor.wait_for_time("emperor: include: still setting up after ", Duration::from_secs(10));
        assert!(line.ends_with(&format!(": it waits for {place}/file")), "{line}");
        emperor.wait_for(&format!("PID 1 waits for {place}/file, whose filesystem does not answer"));
        faulty.behave("exit");
        unmount(&place);
        emperor.stop();
    });
}

#[test]
fn a_start_that_reads_a_file_that_hangs_says_so_ends_in_time_and_stops_at_once() {
    sandboxed(|sandbox| {
        let hanging = sandbox.hanging();
        let file = format!("{}/file", hanging.place);
        sandbox.vassal("include", &format!("include = {file}\n{STEADY}"));
        sandbox.vassal("value", &format!("env = A=@({file})\n{STEADY}"));
        sandbox.vassal("exists", &format!("if-exists = {file}\nenv = A=1\nendif =\n{STEADY}"));
        let emperor = sandbox.emperor(&["--emperor-max-starts", "9"]);
        // It stops within the time that is given to a start, not that of an app.
        emperor.pid_of_started("exists");
        sandbox.vassal("early", &format!("include = {file}\n{STEADY}"));
        emperor.pid_of_started("early");
        fs::remove_file(vassal_path("early")).unwrap();
        emperor.wait_for_time("emperor: early: not gone ", Duration::from_secs(2));
        for name in ["include", "value", "exists"] {
            let line = emperor
                .wait_for_time(&format!("emperor: {name}: still setting up after "), Duration::from_secs(10));
            assert!(line.ends_with(&format!(": it waits for {file}")), "{line}");
            let table = status(sandbox);
            assert!(table.lines().any(|line| line.starts_with(name) && line.contains(&file)), "{table}");
        }
        let why = format!("PID 1 waits for {file}, whose filesystem does not answer");
        fs::remove_file(vassal_path("exists")).unwrap();
        emperor.wait_for(&format!("emperor: exists: {why}: killing pid "));
        emperor.wait_for("emperor: exists: killed: ");
        for name in ["include", "value"] {
            let line = emperor.wait_for(&format!("emperor: {name}: killed: {why}; "));
            assert!(line.contains("never ran; next try in "), "{line}");
        }
        assert_eq!(status(sandbox).matches(&why).count(), 2, "{}", status(sandbox));
        hanging.end();
        emperor.stop();
    });
}

/// It shares the emperor's descriptors first, locks among them, and may be stopped for long by then.
#[test]
fn a_new_process_is_to_end_with_the_emperor_before_it_does_anything_else() {
    sandboxed(|sandbox| {
        let mut emperor = sandbox.emperor(&[]);
        let pid = emperor.pid();
        emperor.wait_for("watching ");
        let trace = sandbox.path("trace");
        let mut strace = Command::new("strace")
            .args(["-fqq", "-o", trace.to_str().unwrap(), "-p", &pid.to_string()])
            .spawn()
            .unwrap();
        let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        until("it is traced", || !status().contains("\nTracerPid:\t0\n"));
        sandbox.vassal("app", STEADY);
        emperor.wait_running(1, "app");
        let line = emperor.wait_for("emperor: app: started (pid ");
        let new = line.rsplit_once("(pid ").unwrap().1.trim_end_matches(')');
        emperor.signal(Signal::TERM);
        assert_eq!(emperor.wait(), 0);
        strace.wait().unwrap();
        let trace = fs::read_to_string(trace).unwrap();
        let first = trace.lines().find(|line| line.split_whitespace().next() == Some(new));
        assert!(first.is_some_and(|first| first.contains("PR_SET_PDEATHSIG, SIGKILL")), "{first:?}");
    });
}
