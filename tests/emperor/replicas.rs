//! Several instances of a vassal, and new ones in the place of old ones: somebody always answers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::common::cgroups::{self, OutermostCgroup};
use crate::common::process;
use crate::common::sandbox::vassal_path;
use crate::common::tutorial::sees_app_mounted;
use crate::common::{Daemon, Sandbox, eventually, sandboxed, until};
use rustix::process::Signal;

/// Answers each connection with its replica and the word after it; finishes with the one in its hands when it
/// is asked to stop.
const SERVER: &str = r#"
import os, select, signal, socket, sys
stop, told = os.pipe()
os.set_blocking(told, False)
signal.set_wakeup_fd(told)
signal.signal(signal.SIGTERM, lambda *_: None)
s = socket.socket(fileno=3)
s.setblocking(False)
print("serving", *sys.argv[1:], flush=True)
while True:
    ready = select.select([s, stop], [], [])[0]
    if stop in ready:
        break
    try:
        c = s.accept()[0]
    except BlockingIOError:
        # Another one was faster.
        continue
    c.setblocking(True)
    c.send(" ".join(sys.argv[1:]).encode())
    c.close()
"#;

/// The lines of a vassal whose app answers with its replica and a word.
pub fn server(sandbox: &Sandbox, word: &str, lines: &str) -> String {
    let path = sandbox.path("server.py");
    if !path.exists() {
        sandbox.file("server.py", SERVER);
    }
    format!("listen = 127.0.0.1:80\ncommand = python3 {} %(replica) {word}\n{lines}", path.display())
}

pub fn get() -> std::io::Result<String> {
    let mut text = String::new();
    TcpStream::connect("127.0.0.1:80")?.read_to_string(&mut text)?;
    Ok(text)
}

/// The answer at a unix socket.
pub fn get_at(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    UnixStream::connect(path)?.read_to_string(&mut text).map(|_| text)
}

/// The answers of a while.
pub fn answers() -> BTreeSet<String> {
    (0..100).filter_map(|_| get().ok()).collect()
}

/// The answers of so many instances: one that has just started, or stands still, does not answer at first.
pub fn answers_of(count: usize) -> BTreeSet<String> {
    eventually(format_args!("{count} answer"), || Some(answers()).filter(|all| all.len() == count))
}

/// Tells threads to end, also if the test fails.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Connects without a pause until `act` has ended, and is never refused. Returns how many connections were
/// answered, all of them.
pub fn while_connecting(act: impl FnOnce()) -> usize {
    let (answered, lost) = while_losing(act);
    assert_eq!(lost, 0, "connections were closed without an answer");
    answered
}

/// Likewise, while an instance is killed with what is in its hands. Returns how many connections were
/// answered, and how many were not.
pub fn while_losing(act: impl FnOnce()) -> (usize, usize) {
    let (is_over, answered, lost) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let count = match get() {
                        Ok(text) if !text.is_empty() => &answered,
                        Ok(_) => &lost,
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => &lost,
                        Err(error) => panic!("{error}"),
                    };
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _over = Over(&is_over);
        act();
    });
    (answered.into_inner(), lost.into_inner())
}

/// Waits until so many instances answer, each with this word.
pub fn wait_for(replicas: &[u16], word: &str) {
    let wanted: BTreeSet<_> = replicas.iter().map(|number| format!("{number} {word}")).collect();
    until(format_args!("{wanted:?}"), || answers() == wanted);
}

#[test]
fn all_replicas_accept_from_the_same_sockets_and_one_that_dies_takes_nobody_along() {
    sandboxed(|sandbox| {
        sandbox.vassal("app", &server(sandbox, "one", "replicas = 3"));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        emperor.wait_running(1, "app");
        wait_for(&[1, 2, 3], "one");
        let status = sandbox.status("app");
        for number in 1..=3 {
            assert!(status.contains(&format!("app/{number} ")), "{status}");
        }
        emperor.wait_for("vassal-init[app/3]: app started");
        let count = while_connecting(|| {
            for round in 1..=3 {
                // PID 1 of one of them; the connection in its hands must not be lost, so that it counts.
                let victim = emperor.wait_running(round, "app/2");
                process::signal(victim, Signal::TERM);
            }
            emperor.wait_running(4, "app/2");
        });
        assert!(count > 0);
        wait_for(&[1, 2, 3], "one");
        emperor.stop();
    });
}

#[test]
fn each_replica_has_its_name_everywhere_and_all_obey_one_command() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let outermost = OutermostCgroup::open();
        let group = cgroups::of_test(&outermost.path, "replicas");
        sandbox.vassal("app", &server(sandbox, "one", "replicas = 2\ncgroup-opt = cgroup.max.depth=7"));
        let group_option = group.to_str().unwrap();
        let emperor = sandbox.emperor(&["--emperor-cgroup", group_option, "--metrics", "127.0.0.1:9195"]);
        for count in 1..=2 {
            wait_for(&[1, 2], "one");
            wait_until_set(&emperor, 2 * count);
            let mut metrics = TcpStream::connect("127.0.0.1:9195").unwrap();
            metrics.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
            let mut text = String::new();
            metrics.read_to_string(&mut text).unwrap();
            let json = sandbox.control(&["status", "--json"]).1;
            for (number, name) in [(1, "v-app"), (2, "v2-app")] {
                let processes = format!(r#"vassal_processes{{vassal="app",replica="{number}"}} 2"#);
                assert!(text.contains(&processes), "{text}");
                assert!(json.contains(&format!(r#""replica":{number},"#)), "{json}");
                let init = sandbox.pid_in_status(&format!("app/{number}"));
                let members = fs::read_to_string(group.join(name).join("cgroup.procs")).unwrap();
                assert!(members.lines().any(|pid| pid == init.to_string()), "{name}: {members}");
                // Limits are those of each.
                let limit = fs::read_to_string(group.join(name).join("cgroup.max.depth")).unwrap();
                assert_eq!(limit, "7\n", "{name}");
            }
            let (_, one) = sandbox.control(&["status", "--json", "app/2"]);
            assert!(one.contains(r#""replica":2,"#) && !one.contains(r#""replica":1,"#), "{one}");
            until("it is up", || sandbox.control(&["status", "app/2", "--is-up"]).0 == 0);
            for (command, expected) in
                [("status app/3", "there is no vassal 'app/3'"), ("stop app/2", "app/2 is one of several")]
            {
                let (status, text) = sandbox.control(&command.split(' ').collect::<Vec<_>>());
                assert!(status == 1 && text.contains(expected), "{text}");
            }
            emperor.wait_for_nth(count, "vassal-init[app/2]: app started");
            let (status, text) = sandbox.control(&["stop", "--wait", "app"]);
            assert_eq!(status, 0, "{text}");
            assert!(process::named("python3").is_empty());
            // Who closes them may still be ending.
            until("its sockets are closed", || {
                get().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
            });
            sandbox.control(&["start", "app"]);
        }
        wait_for(&[1, 2], "one");
        emperor.stop();
        cgroups::remove(Path::new(group_option));
    });
}

#[test]
fn on_demand_the_first_client_has_all_replicas_started() {
    sandboxed(|sandbox| {
        let lines = server(sandbox, "one", "replicas = 2").replace("listen = 127.0.0.1:80", "");
        sandbox.vassal("app", &lines);
        fs::write(vassal_path("app").with_extension("ini.sock"), "127.0.0.1:80\n").unwrap();
        let emperor = sandbox.emperor(&["--emperor-on-demand-extension", ".sock"]);
        emperor.wait_for("emperor: app: waiting for a connection to 127.0.0.1:80");
        assert!(process::named("python3").is_empty());
        // Whichever is up first.
        assert!(get().unwrap().ends_with(" one"));
        wait_for(&[1, 2], "one");
        emperor.stop();
    });
}

#[test]
fn a_rolling_reload_loses_no_connection() {
    sandboxed(|sandbox| {
        let lines = "replicas = 2\nready-after = 100ms";
        sandbox.vassal("app", &server(sandbox, "one", lines));
        let emperor = sandbox.emperor(&[]);
        wait_until_set(&emperor, 2);
        wait_for(&[1, 2], "one");
        let count = while_connecting(|| {
            for word in ["two", "three", "four"] {
                sandbox.vassal("app", &server(sandbox, word, lines));
                let (status, text) = sandbox.control(&["reload", "--wait", "app"]);
                assert_eq!(status, 0, "{text}");
            }
        });
        assert!(count > 0);
        until("both answer from the last file", || {
            let all = answers();
            all.len() == 2 && all.iter().all(|answer| answer.ends_with(" four"))
        });
        emperor.stop();
    });
}

#[test]
fn uwsgi_that_is_replaced_answers_what_it_has_accepted() {
    sandboxed(|sandbox| {
        let [asked, go_on] = ["asked", "go-on"].map(|name| sandbox.path(name));
        let app = format!(
            "sub {{ open(my $asked, '>', '{}'); select(undef, undef, undef, 0.01) until -e '{}';
            return [200, [], ['done']]; }}",
            asked.display(),
            go_on.display(),
        );
        let psgi = sandbox.file("app.psgi", &app);
        let app =
            format!("http-socket = 127.0.0.1:80\nmaster = true\nplugin = psgi\npsgi = {}", psgi.display());
        sandbox.vassal("app", &format!("{app}\nreload-strategy = rolling"));
        let emperor = sandbox.emperor(&[]);
        // By another instance, and then, as the file of that one says, by the next one in its place.
        for (round, strategy) in [(1, "recreate"), (2, "rolling")] {
            emperor.wait_for_nth(round, "ready to accept requests after");
            let mut connection = TcpStream::connect("127.0.0.1:80").unwrap();
            connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            until("the request is in its hands", || asked.exists());
            let other_jail = format!("reload-strategy = {strategy}\nhook-as-root = exec:true {round}");
            sandbox.vassal("app", &format!("{app}\n{other_jail}"));
            emperor.wait_for_nth(round, "stopping for the emperor: uWSGI's message 2 to the app");
            // Before its worker has heard of that, it would take the next request, too.
            emperor.wait_for_nth(round, "Gracefully killing worker");
            fs::write(&go_on, "").unwrap();
            let mut text = String::new();
            connection.read_to_string(&mut text).unwrap();
            assert!(text.ends_with("done"), "{strategy}: {text}");
            for path in [&asked, &go_on] {
                fs::remove_file(path).unwrap();
            }
            emperor.wait_for_nth(round, " after the request; ");
        }
        emperor.wait_for_nth(3, "ready to accept requests after");
        // Nobody takes its place: as uWSGI's own emperor, at once.
        sandbox.control(&["stop", "app"]);
        emperor.wait_for("stopping for the emperor: uWSGI's message 0 to the app");
        emperor.stop();
    });
}

/// Waits until so many instances of the app run.
pub fn wait_until_set(emperor: &Daemon, count: usize) {
    until("all instances run", || {
        emperor.lines("emperor: app/").iter().filter(|line| line.contains("running")).count()
            + emperor.lines("emperor: app: running").len()
            >= count
    });
}

#[test]
fn a_file_that_does_not_work_costs_nothing_and_the_next_one_is_tried() {
    sandboxed(|sandbox| {
        let lines = "reload-strategy = rolling\nready-after = 100ms";
        sandbox.vassal("app", &server(sandbox, "good", lines));
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        emperor.wait_running(1, "app");
        wait_for(&[1], "good");
        let bad = [
            ("no-such-key = 1\nstrict = true", "unknown option 'no-such-key'"),
            ("hook-as-root = exec:exit 3", "exited with status 3"),
            (
                "ready-timeout = 2s\nhook-as-root = exec:sleep 1000",
                "still setting up after 2.0 s (ready-timeout)",
            ),
        ];
        let count = while_connecting(|| {
            for (round, (line, why)) in bad.into_iter().enumerate() {
                sandbox.vassal("app", &server(sandbox, "bad", &format!("{lines}\n{line}")));
                emperor.wait_for_nth(2 * round + 1, "emperor: app/2: reload refused: ");
                let status = sandbox.status("app");
                assert!(status.contains("reload refused: ") && status.contains("running"), "{status}");
                let (status, text) = sandbox.control(&["reload", "--wait", "app"]);
                assert_eq!(status, 1, "{text}");
                assert!(text.contains(why), "{line}: {text}");
            }
        });
        assert!(count > 0);
        sandbox.vassal("app", &server(sandbox, "better", lines));
        until("the new one answers", || answers().iter().all(|answer| answer.ends_with(" better")));
        emperor.stop();
    });
}

#[test]
fn what_is_lost_after_a_bad_deploy_comes_back_with_the_file_of_before() {
    sandboxed(|sandbox| {
        for replicas in [1, 2] {
            let lines = format!(
                "reload-strategy = rolling\nreplicas = {replicas}\nready-after = 100ms\ninclude = {}",
                sandbox.path("more.inc").display()
            );
            let bad = "no-such-key = 1\nstrict = true";
            sandbox.file("more.inc", "[uwsgi]\n");
            sandbox.vassal("app", &server(sandbox, "good", &lines));
            let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
            wait_until_set(&emperor, replicas);
            wait_for(&[1, 2][..replicas], "good");
            let (status, text) = sandbox.control(&["reload", "--wait", "app"]);
            assert_eq!(status, 0, "{text}");
            let before = answers_of(replicas);
            // What the file includes is bad as well.
            sandbox.file("more.inc", &format!("[uwsgi]\n{bad}\n"));
            sandbox.vassal("app", &server(sandbox, "bad", &format!("{lines}\n{bad}")));
            emperor.wait_for("reload refused: ");
            let lose = |round: usize| {
                for app in process::named("python3") {
                    process::signal(app.pid, Signal::KILL);
                }
                let came_back = "it was started with the file of before, as the reload was refused: ";
                emperor.wait_for_nth(round * replicas, came_back);
                until("all are back", || answers() == before);
            };
            lose(1);
            let detail = sandbox.control(&["status", "app"]).1;
            assert!(detail.contains("Next start: with the file of before"), "{detail}");
            assert!(detail.contains("Runs with: the file of 20"), "{detail}");
            // The program of after an upgrade knows it, too.
            let (status, text) = sandbox.control(&["upgrade"]);
            assert_eq!(status, 0, "{text}");
            lose(2);
            sandbox.file("more.inc", "[uwsgi]\n");
            sandbox.vassal("app", &server(sandbox, "better", &lines));
            until("the new one answers", || answers().iter().all(|answer| answer.ends_with(" better")));
            emperor.stop();
        }
    });
}

#[test]
fn an_app_that_ends_soon_after_it_was_ready_costs_nothing() {
    sandboxed(|sandbox| {
        let lines = "reload-strategy = rolling\nready-check = exec:true";
        for replicas in [1, 2] {
            let lines = format!("{lines}\nreplicas = {replicas}");
            sandbox.vassal("app", &server(sandbox, "good", &lines));
            let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
            emperor.wait_for_nth(replicas, "ready to accept requests");
            wait_for(&[1, 2][..replicas], "good");
            let count = while_connecting(|| {
                // It ends once it has been ready, before the others are stopped for it.
                let app = "command = sh -c 'until [ -e /run/scratch/go ]; do sleep 0.02; done; exit 3'";
                let bad = format!("{lines}\nready-after = 30s\nlisten = 127.0.0.1:80\n{app}");
                sandbox.vassal("app", &bad);
                emperor.wait_for_nth(replicas + 1, "ready to accept requests");
                sandbox.file("go", "");
                emperor.wait_for("reload refused: app exited with status 3");
                let (status, text) = sandbox.control(&["reload", "--wait", "app"]);
                assert_eq!((status, text.contains("exited with status 3")), (1, true), "{text}");
            });
            assert!(count > 0);
            fs::remove_file(sandbox.path("go")).unwrap();
            wait_for(&[1, 2][..replicas], "good");
            emperor.stop();
        }
    });
}

#[test]
fn the_number_of_replicas_follows_the_file_up_and_down() {
    sandboxed(|sandbox| {
        let with = |replicas: u32| {
            let lines = format!("replicas = {replicas}\nreload-strategy = rolling\nready-after = 10ms");
            server(sandbox, &format!("of{replicas}"), &lines)
        };
        sandbox.vassal("app", &with(1));
        let emperor = sandbox.emperor(&[]);
        wait_for(&[1], "of1");
        let count = while_connecting(|| {
            for replicas in [4, 2, 3, 1] {
                sandbox.vassal("app", &with(replicas));
                until(format_args!("{replicas} replicas"), || {
                    let all = answers();
                    all.len() == replicas as usize
                        && all.iter().all(|answer| answer.ends_with(&format!("of{replicas}")))
                });
            }
        });
        assert!(count > 0);
        until("the others are gone", || process::named("python3").len() == 1);
        emperor.stop();
    });
}

#[test]
fn a_file_that_changes_again_during_a_rolling_reload_is_the_one_that_counts() {
    sandboxed(|sandbox| {
        let lines = "replicas = 2\nready-after = 300ms";
        sandbox.vassal("app", &server(sandbox, "one", lines));
        let emperor = sandbox.emperor(&[]);
        wait_until_set(&emperor, 2);
        wait_for(&[1, 2], "one");
        let count = while_connecting(|| {
            // The first change does not work, the second one comes before that is known.
            sandbox.vassal("app", &server(sandbox, "two", &format!("{lines}\nready-check = exec:false")));
            emperor.wait_for("emperor: app/3: started");
            sandbox.vassal("app", &server(sandbox, "three", lines));
            emperor.wait_for("stopping: a later reload replaces it");
            until("the last one answers", || {
                let all = answers();
                all.len() == 2 && all.iter().all(|answer| answer.ends_with(" three"))
            });
        });
        assert!(count > 0);
        until("the others are gone", || process::named("python3").len() == 2);
        emperor.stop();
    });
}

#[test]
fn what_does_not_suffice_for_a_second_instance_costs_the_first_one_nothing() {
    sandboxed(|sandbox| {
        fs::create_dir_all("/run/scratch/small").unwrap();
        sandbox.mount(&["-t", "tmpfs", "-o", "size=1m", "small"], "/run/scratch/small");
        let disk = "exec-as-root = head -c 700k /dev/zero > /run/scratch/small/%(replica)";
        // The limit counts the processes of the user on the whole machine: no other test has this one.
        let pids = "uid = 4757\ngid = 4757\nlimit-nproc = 1\nexec-as-user = sleep 1000 &";
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        // What the first file says, and what is added by the second one.
        for (first, more) in [(disk, ""), (pids, ""), ("", "limit-as = 1")] {
            let lines = |replicas: u32| {
                format!("replicas = {replicas}\nreload-strategy = rolling\nready-after = 20s\n{first}")
            };
            let before = emperor.lines("emperor: app: running").len();
            sandbox.vassal("app", &server(sandbox, "x", &lines(1)));
            emperor.wait_for_nth(before + 1, "emperor: app: running");
            until("it answers", || get().is_ok_and(|answer| answer == "1 x"));
            let count = while_connecting(|| {
                let refused = emperor.lines("reload refused").len();
                sandbox.vassal("app", &format!("{}\n{more}", server(sandbox, "y", &lines(2))));
                emperor.wait_for_nth(refused + 1, "reload refused");
                assert!(sandbox.status("app").contains("reload refused: "), "{first}{more}");
            });
            assert!(count > 0);
            assert_eq!(answers(), BTreeSet::from(["1 x".to_owned()]), "{first}{more}");
            fs::remove_file(vassal_path("app")).unwrap();
            until("it is gone", || process::named("python3").is_empty());
            until("its name is free", || sandbox.status("app").contains("there is no vassal"));
            drop(fs::remove_file("/run/scratch/small/1"));
        }
        emperor.stop();
    });
}

#[test]
fn an_app_that_binds_its_own_port_runs_once_and_a_change_of_its_file_does_not_end_it() {
    sandboxed(|sandbox| {
        let lines = "replicas = 2\nready-after = 20s\n\
                     command = python3 -m http.server --bind 127.0.0.1 --directory /run/scratch 8080";
        sandbox.vassal("app", lines);
        let emperor = sandbox.emperor(&["--emperor-throttle", "1", "--emperor-max-throttle", "1"]);
        let answers = || TcpStream::connect("127.0.0.1:8080").is_ok();
        until("one of them answers", answers);
        emperor.wait_for("app exited with status 1");
        emperor.wait_for("next try in");
        assert!(answers() && sandbox.status("app").contains("app exited with status 1"));
        sandbox.vassal("app", &format!("{lines}\nenv = A=1"));
        emperor.wait_for("reload refused: app exited with status 1");
        assert!(answers());
        emperor.stop();
    });
}

#[test]
fn a_replica_whose_daemon_is_killed_comes_back_while_the_others_serve() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let lines = "replicas = 2\nexec-as-user = fuse-zip -r /var/www/app001.zip /app\nuid = user001\n\
                     mountpoint-check = /app";
        sandbox.vassal("app", &server(sandbox, "x", lines));
        let emperor = sandbox.emperor(&[]);
        wait_for(&[1, 2], "x");
        let inits: Vec<_> = ["app/1", "app/2"].iter().map(|name| sandbox.pid_in_status(name)).collect();
        for init in &inits {
            assert!(sees_app_mounted(*init));
        }
        let (answered, lost) = while_losing(|| {
            let daemon = process::all()
                .into_iter()
                .find(|process| process.comm == "fuse-zip" && is_below(process.pid, inits[1]));
            process::signal(daemon.unwrap().pid, Signal::KILL);
            emperor.wait_for("emperor: app/2: mountpoint /app lost");
        });
        // It answers one at a time, and is killed.
        assert!(answered > 0 && lost <= 1, "{answered}, {lost}");
        wait_for(&[1, 2], "x");
        assert_eq!(sandbox.pid_in_status("app/1"), inits[0]);
        assert_ne!(sandbox.pid_in_status("app/2"), inits[1]);
        emperor.stop();
    });
}

/// Whether a process has the mount namespace of another one.
pub fn is_below(pid: i32, init: i32) -> bool {
    let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    namespace(pid).is_some() && namespace(pid) == namespace(init)
}

#[test]
fn an_upgrade_goes_on_with_all_instances_and_with_a_rolling_reload() {
    sandboxed(|sandbox| {
        let lines = "replicas = 2\nready-after = 300ms";
        sandbox.vassal("app", &server(sandbox, "one", lines));
        let emperor = sandbox.emperor(&[]);
        wait_for(&[1, 2], "one");
        let count = while_connecting(|| {
            sandbox.vassal("app", &server(sandbox, "two", lines));
            emperor.wait_for("emperor: app/3: started");
            let (status, text) = sandbox.control(&["upgrade"]);
            assert_eq!(status, 0, "{text}");
            until("the new ones answer", || answers().iter().all(|answer| answer.ends_with(" two")));
        });
        assert!(count > 0);
        until("two are left", || process::named("python3").len() == 2);
        emperor.stop();
    });
}

#[test]
fn an_upgrade_that_rolls_gives_each_vassal_a_new_init_and_loses_no_connection() {
    sandboxed(|sandbox| {
        // One by one, whatever the vassals' own strategies are.
        sandbox.vassal("app", &server(sandbox, "x", ""));
        sandbox.vassal("other", "command = sleep 1000\nreplicas = 2\nready-after = 10ms");
        let emperor = sandbox.emperor(&["--emperor-max-reloads", "1"]);
        let before = emperor.wait_running(1, "app");
        until("both replicas run", || sandbox.status("other").matches("running").count() == 2);
        let others = process::named("sleep");
        let count = while_connecting(|| {
            let (status, text) = sandbox.control(&["upgrade", "--roll"]);
            assert_eq!(status, 0, "{text}");
            assert!(text.contains("2 vassals will replace their instances"), "{text}");
            until("all are others", || {
                let table = sandbox.control(&["status"]).1;
                let now = process::named("sleep");
                let is_new = now.iter().all(|process| others.iter().all(|old| old.pid != process.pid));
                is_new && now.len() == 2 && table.matches(" running ").count() == 3
            });
        });
        assert!(count > 0);
        assert_ne!(sandbox.pid_in_status("app"), before);
        emperor.stop();
    });
}

#[test]
fn a_socket_that_has_to_be_bound_anew_keeps_no_roll_from_its_end() {
    sandboxed(|sandbox| {
        let path = "/run/scratch/app.sock";
        let deploy = |word: &str, mode: u32| {
            let lines = format!("replicas = 2\nready-after = 100ms\nchmod-socket = {mode}");
            sandbox.vassal("app", &server(sandbox, word, &lines).replacen("127.0.0.1:80", path, 1));
        };
        let serves = |word: &str| {
            let all = [1, 2, 3].map(|replica| format!("{replica} {word}"));
            until(format_args!("two replicas with {word}"), || {
                let answers: BTreeSet<_> = (0..50).filter_map(|_: u32| get_at(path).ok()).collect();
                answers.len() == 2 && answers.iter().all(|answer| all.contains(answer))
            });
            until("the others are gone", || process::named("python3").len() == 2);
        };
        deploy("one", 666);
        let emperor = sandbox.emperor(&["--emperor-throttle", "1", "--emperor-freq", "1"]);
        serves("one");
        fs::remove_file(path).unwrap();
        emperor.wait_for("was removed: who connects there does not reach it");
        deploy("two", 666);
        serves("two");
        deploy("three", 600);
        serves("three");
        deploy("two", 666);
        serves("two");
        assert!(!sandbox.status("app").contains("was removed"));
        emperor.stop();
        assert!(!Path::new(path).exists());
    });
}

#[test]
fn a_trial_leaves_the_file_of_a_socket_as_it_is_until_it_takes_over() {
    sandboxed(|sandbox| {
        let path = "/run/scratch/app.sock";
        let rolls = "reload-strategy = rolling\nready-after = 100ms";
        let good = |word: &str, more: &str| {
            let lines = server(sandbox, word, &format!("{rolls}\n{more}"));
            sandbox.vassal("app", &lines.replacen("127.0.0.1:80", path, 1));
        };
        let file = || {
            let there = fs::symlink_metadata(path).unwrap();
            (there.ino(), there.mode() & 0o777, there.uid(), there.gid())
        };
        good("one", "chmod-socket = 600");
        let emperor = sandbox.emperor(&["--emperor-throttle", "1"]);
        emperor.wait_running(1, "app");
        let before = file();
        assert_eq!(before.1, 0o600);
        for (round, more) in ["chmod-socket = 666", "uid = 4747\ngid = 4747"].into_iter().enumerate() {
            let never = "ready-timeout = 3s\nready-check = exec:false";
            let lines = format!("listen = {path}\n{rolls}\n{never}\ncommand = sleep 1000");
            sandbox.vassal("app", &format!("{lines}\n{more}"));
            emperor.wait_for_nth(round + 1, "emperor: app/2: running");
            assert_eq!((file(), get_at(path).unwrap()), (before, "1 one".to_owned()), "{more}");
            emperor.wait_for_nth(round + 1, "emperor: app/2: reload refused: ");
            emperor.wait_for_nth(round + 1, "emperor: app/2: stopped");
            assert_eq!((file(), get_at(path).unwrap()), (before, "1 one".to_owned()), "{more}");
        }
        // The way to the app stays the same one.
        for (round, (more, is)) in [
            ("chmod-socket = 640\nuid = 4747\ngid = 4747", (before.0, 0o640, 4747, 4747)),
            ("chmod-socket = 640\nchown-socket = root:4848", (before.0, 0o640, 0, 4848)),
            ("chmod-socket = 600\nuid = 4747\ngid = 4747", (before.0, 0o600, 4747, 4747)),
        ]
        .into_iter()
        .enumerate()
        {
            good(&format!("good{round}"), more);
            until(format_args!("{more}"), || {
                file() == is && get_at(path).unwrap().ends_with(&format!(" good{round}"))
            });
        }
        emperor.stop();
        assert!(!Path::new(path).exists());
    });
}

#[test]
fn the_sockets_file_stays_while_one_instance_uses_it() {
    sandboxed(|sandbox| {
        // The new file has another socket, and does not work: the old one must stay reachable.
        let lines = |socket: &str, more: &str| {
            format!(
                "listen = /run/scratch/{socket}.sock\nreload-strategy = rolling\nready-after = 100ms\n\
                 ready-timeout = 1s\ncommand = sleep 1000\n{more}"
            )
        };
        sandbox.vassal("app", &lines("one", ""));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_running(1, "app");
        sandbox.vassal("app", &lines("two", "ready-check = exec:false"));
        emperor.wait_for("emperor: app/2: reload refused: ");
        assert!(Path::new("/run/scratch/one.sock").exists());
        until("what only the new one used is gone", || !Path::new("/run/scratch/two.sock").exists());
        fs::remove_file(vassal_path("app")).unwrap();
        until("it is gone", || !Path::new("/run/scratch/one.sock").exists());
        emperor.stop();
    });
}
