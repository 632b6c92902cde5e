//! What an app tells of itself, in uWSGI's way and in systemd's, and what follows from it.

use std::fs;

use crate::common::sandbox::vassal_path;
use crate::common::tutorial::{MOUNTED, wait_for_page};
use crate::common::{Sandbox, process, run, sandboxed, until};
use rustix::process::Signal;

/// Says that it is ready as often as it is told to by a file, after it has shown what it was offered.
const APP: &str = r#"
use Socket;
$| = 1;
print "fd: ", defined $ENV{UWSGI_EMPEROR_FD} ? "yes" : "no", ", socket: ", $ENV{NOTIFY_SOCKET} // "no", "\n";
sleep 0.05 until -e "/run/scratch/go";
if ($ARGV[0] eq "byte") {
    open my $fd, ">&=", $ENV{UWSGI_EMPEROR_FD} or die;
    syswrite $fd, "\x01\x05\x05\x63\x11";
} else {
    socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
    my $to = pack_sockaddr_un("\0" . substr $ENV{NOTIFY_SOCKET}, 1);
    # A child may say it too, as systemd-notify(1) does.
    for my $text ("STATUS=starting", "READY=0", "X_READY=1\nMAINPID=1\nREADY=1") {
        unless (my $pid = fork) { send $socket, $text, 0, $to; exit } else { waitpid $pid, 0 }
    }
}
print "said\n";
sleep 1000;
"#;

const HOOKS: &str = "hook-accepting = exec:echo accepting as $(id -un)\nexec-accepting-once = echo once";

fn app(sandbox: &Sandbox, how: &str, more: &str) -> String {
    let path =
        sandbox.file("app.pl", &APP.replace("sleep 0.05 until", "select undef, undef, undef, 0.02 until"));
    format!("uid = user001\ncommand = perl {} {how}\n{more}", path.display())
}

/// Lets the app say it.
fn go(sandbox: &Sandbox) {
    sandbox.file("go", "");
}

#[test]
fn the_hooks_of_accepting_run_once_the_app_says_so() {
    sandboxed(|sandbox| {
        for how in ["byte", "datagram"] {
            let mut vassal = sandbox.vassal_init(how, &app(sandbox, how, HOOKS));
            let offered = vassal.wait_for("fd: ");
            assert!(offered.starts_with("fd: yes, socket: @"), "{offered}");
            assert_eq!(vassal.lines("accepting as"), [""; 0], "nothing is said yet");
            go(sandbox);
            vassal.wait_for("echo once: done");
            vassal.wait_for("the app is ready, ");
            assert_eq!(vassal.lines("accepting as user001"), ["accepting as user001"]);
            vassal.signal(Signal::TERM);
            assert_eq!(vassal.wait(), 128 + 15);
            fs::remove_file(sandbox.path("go")).unwrap();
        }
    });
}

#[test]
fn the_emperor_is_told_and_a_reloaded_app_says_it_again() {
    sandboxed(|sandbox| {
        go(sandbox);
        sandbox.vassal("app", &app(sandbox, "byte", HOOKS));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("emperor: app: ready to accept requests after ");
        emperor.wait_for("emperor: app: loyal after ");
        sandbox.vassal("app", &app(sandbox, "datagram", HOOKS));
        emperor.wait_for("emperor: app: reloaded after ");
        emperor.wait_for_nth(2, "emperor: app: ready to accept requests after ");
        until("the hooks", || emperor.lines("accepting as user001").len() == 2);
        assert_eq!(emperor.lines("loyal").len(), 1);
        emperor.stop();
    });
}

#[test]
fn an_app_that_fails_its_check_is_replaced_and_the_reason_is_told() {
    sandboxed(|sandbox| {
        go(sandbox);
        let check = "exec:test -e /run/scratch/go || { echo the database is gone; exit 1; }";
        let lines = format!("ready-check = {check}\nready-check-interval = 20ms\ncommand = sleep 1000");
        sandbox.vassal("app", &format!("uid = user001\n{lines}"));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("emperor: app: ready to accept requests after ");
        fs::remove_file(sandbox.path("go")).unwrap();
        let why = "ready-check: test -e /run/scratch/go || { echo the database is gone; exit: exited \
                   with status 1: the database is gone, 3 failures in a row (";
        let line = emperor.wait_for(&format!("emperor: app: {why}"));
        assert!(line.contains("app.ini:3:15); up "), "{line}");
        go(sandbox);
        emperor.wait_for_nth(2, "emperor: app: ready to accept requests after ");
        emperor.stop();
    });
}

/// Says it a hundred times, and ends when all that was read (SIOCOUTQ).
const STRANGER: &str = r#"
use Socket;
socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
for (1 .. 100) { send $socket, "READY=1", 0, pack_sockaddr_un("\0" . $ARGV[0]) or die }
my $left = pack "i", 1;
while (unpack "i", $left) { select undef, undef, undef, 0.005; ioctl $socket, 0x5411, $left or die }
"#;

#[test]
fn an_app_that_reloads_or_stops_by_itself_is_not_ready_meanwhile() {
    sandboxed(|sandbox| {
        let app = r#"
            use Socket;
            socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
            my $to = pack_sockaddr_un("\0" . substr $ENV{NOTIFY_SOCKET}, 1);
            my $step = 0;
            for my $text ("READY=1", "RELOADING=1\nMONOTONIC_USEC=1", "READY=1", "STOPPING=1") {
                send $socket, $text, 0, $to or die;
                $step++;
                select undef, undef, undef, 0.02 until -e "/run/scratch/step$step";
            }"#;
        let path = sandbox.file("steps.pl", app);
        sandbox.vassal("app", &format!("command = perl {}", path.display()));
        let emperor = sandbox.emperor(&["--control", "/run/scratch/control"]);
        let is_ready = || {
            let mut command = sandbox.program("emperor");
            let output =
                command.args(["status", "--json", "--control", "/run/scratch/control"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().contains("\"ready\":true")
        };
        let mut ready = 0;
        for (step, line) in [
            (1, "ready to accept requests after"),
            (2, "the app reloads itself, "),
            (3, "ready to accept requests after"),
            (4, "the app is stopping by itself, "),
        ] {
            ready += step % 2;
            emperor.wait_for_nth(if step % 2 == 1 { ready } else { 1 }, &format!("emperor: app: {line}"));
            assert_eq!(is_ready(), step % 2 == 1, "{line}");
            sandbox.file(&format!("step{step}"), "");
        }
        emperor.stop();
    });
}

#[test]
fn who_says_without_end_that_it_reloads_is_not_listened_to_each_time() {
    sandboxed(|sandbox| {
        let app = r#"
            use Socket;
            socket my $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
            my $to = pack_sockaddr_un("\0" . substr $ENV{NOTIFY_SOCKET}, 1);
            for (1 .. 1000) { send $socket, "RELOADING=1\nREADY=1\n", 0, $to or die }
            send $socket, "STOPPING=1", 0, $to or die;
            sleep 1000;"#;
        let path = sandbox.file("talk.pl", app);
        sandbox.vassal("app", &format!("command = perl {}", path.display()));
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("the app is stopping by itself, ");
        let heard = emperor.lines("the app reloads itself, ").len();
        assert!(heard < 500, "{heard} of 1000");
        emperor.stop();
    });
}

#[test]
fn nobody_but_the_app_can_say_that_it_is_ready() {
    sandboxed(|sandbox| {
        let stranger = sandbox.file("stranger.pl", STRANGER);
        // With a pid namespace it keeps everybody out, root too. Without one only the app's user and root
        // count.
        for (unshare, name, who) in
            [("fs,pid", "inside", "0"), ("fs,pid", "other", "4001"), ("fs", "beside", "4001")]
        {
            let mut command = sandbox.program("vassal-init");
            command.args(["--unshare", unshare]).arg(sandbox.ini(name, &app(sandbox, "datagram", HOOKS)));
            let mut vassal = sandbox.start(name, command);
            let offered = vassal.wait_for("fd: ");
            let address = offered.split_once('@').unwrap().1;
            run("setpriv", &["--reuid", who, "--clear-groups", "perl", stranger.to_str().unwrap(), address]);
            assert_eq!(vassal.lines("the app is ready"), [""; 0], "{name}: {who} was believed");
            // By a child of the app, which is gone before anybody looks.
            let init = process::only("perl").parent;
            process::signal(init, Signal::STOP);
            go(sandbox);
            vassal.wait_for("said");
            process::signal(init, Signal::CONT);
            vassal.wait_for("echo once: done");
            assert_eq!(vassal.lines("the app is ready").len(), 1);
            vassal.signal(Signal::TERM);
            assert_eq!(vassal.wait(), 128 + 15);
            fs::remove_file(sandbox.path("go")).unwrap();
        }
    });
}

#[test]
fn a_failed_hook_of_accepting_ends_the_vassal() {
    sandboxed(|sandbox| {
        go(sandbox);
        let mut vassal = sandbox.vassal_init("vassal", &app(sandbox, "byte", "exec-accepting = exit 3"));
        assert_eq!(vassal.wait(), 71);
        vassal.wait_for("setup failed in accepting #1: run exit 3: exited with status 3 (");
        // It serves: it is asked to stop, not killed.
        vassal.wait_for("SIGTERM to the app");
        assert_eq!(vassal.lines("SIGKILL"), [""; 0]);
    });
}

#[test]
fn what_the_file_takes_away_is_not_offered() {
    sandboxed(|sandbox| {
        let more = "unenv = UWSGI_EMPEROR_FD\nenv = NOTIFY_SOCKET=/mine";
        let mut command = sandbox.program("vassal-init");
        command.arg(sandbox.ini("vassal", &app(sandbox, "byte", more))).env("UWSGI_EMPEROR_FD", "7");
        let vassal = sandbox.start("vassal", command);
        assert_eq!(vassal.wait_for("fd: "), "fd: no, socket: /mine");
        // And what our own starter gave us is not the app's.
        let mut command = sandbox.program("vassal-init");
        command
            .arg(sandbox.ini("bare", &app(sandbox, "byte", "")))
            .env("NOTIFY_SOCKET", "/run/systemd/notify");
        let bare = sandbox.start("bare", command);
        assert!(bare.wait_for("fd: ").starts_with("fd: yes, socket: @"));
        for mut vassal in [vassal, bare] {
            vassal.signal(Signal::TERM);
            vassal.wait();
        }
    });
}

#[test]
fn real_uwsgi_says_when_it_is_ready() {
    sandboxed(|sandbox| {
        sandbox.tutorial();
        let path = vassal_path("app001");
        let lines = fs::read_to_string(&path).unwrap() + "exec-accepting = echo accepting as $(id -un)\n";
        fs::write(&path, lines).unwrap();
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("emperor: app001: ready to accept requests after ");
        emperor.wait_for("accepting as user001");
        wait_for_page();
        emperor.wait_for("emperor: app001: loyal after ");
        emperor.stop();
        assert_eq!(process::named("uwsgi-core").len(), 0);
    });
}

#[test]
fn what_the_old_app_says_on_its_way_out_does_not_count_for_the_new_one() {
    sandboxed(|sandbox| {
        let app = r#"
            sub ready { open my $fd, ">&=", $ENV{UWSGI_EMPEROR_FD} or die; syswrite $fd, "\x05" }
            sub rest { select undef, undef, undef, $_[0] }
            if (open my $old, "<", "/run/scratch/old") {
                rest 0.3;
                open my $file, ">", "/run/scratch/new" or die;
                ready;
                sleep 1000;
            }
            open my $old, ">", "/run/scratch/old" or die;
            $SIG{TERM} = sub {
                ready; rest 0.02 until `cat /run/scratch/vassal.log` =~ /the app is ready/; exit
            };
            $| = 1;
            print "up\n";
            rest 1 while 1;"#;
        let path = sandbox.file("twice.pl", app);
        let hook = "exec-accepting = test -e /run/scratch/new && echo accepting";
        let mut vassal = sandbox.vassal_init("vassal", &format!("command = perl {}\n{hook}", path.display()));
        vassal.wait_for("up");
        vassal.signal(Signal::HUP);
        vassal.wait_for_nth(2, "the app is ready");
        vassal.wait_for("echo accepting: done");
        vassal.signal(Signal::TERM);
        assert_eq!(vassal.wait(), 128 + 15);
        assert_eq!(vassal.lines("accepting #1").len(), 1);
    });
}

#[test]
fn an_app_that_stops_giving_heartbeats_is_restarted() {
    sandboxed(|sandbox| {
        // uWSGI's way and systemd's: twice, and then no more. One that never gave any is left alone.
        let byte = "perl -e 'open my $fd, \">&=\", $ENV{UWSGI_EMPEROR_FD}; for (1..2) { syswrite \
            $fd, \"\\x1a\"; sleep 1 } sleep 1000'";
        let notify = "perl -MSocket -e 'socket my $s, AF_UNIX, SOCK_DGRAM, 0; my $to = \
            pack_sockaddr_un(\"\\0\" . substr $ENV{NOTIFY_SOCKET}, 1); \
             print STDERR \"within $ENV{WATCHDOG_USEC}\\n\"; for (1..2) { send $s, \"WATCHDOG=1\\n\
                 STATUS=turn $_\", 0, $to; sleep 1 } sleep 1000'";
        for (name, app) in [("byte", byte), ("notify", notify), ("silent", "sleep 1000")] {
            sandbox.vassal(name, &format!("command = {app}"));
        }
        let control = sandbox.path("control");
        let emperor =
            sandbox.emperor(&["--emperor-required-heartbeat", "2", "--control", control.to_str().unwrap()]);
        emperor.wait_for("within 2000000");
        let status = || {
            let mut command = sandbox.program("emperor");
            let output =
                command.args(["status", "notify", "--control", control.to_str().unwrap()]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        until("the status", || status().contains("turn 2"));
        for name in ["byte", "notify"] {
            let why = "the app has given no heartbeat for 2.0 s";
            emperor.wait_for(&format!("emperor: {name}: {why}: killing pid "));
            emperor.wait_for(&format!("emperor: {name}: killed: {why}; up "));
            emperor.wait_running(2, name);
        }
        assert_eq!(emperor.lines("emperor: silent: started").len(), 1);
        emperor.stop();
    });
}

/// Gives a heartbeat, tells of it in the file `beat`, and is silent from then on.
const BEAT: &str = "command = perl -MSocket -e 'socket my $s, AF_UNIX, SOCK_DGRAM, 0; \
    send $s, q(WATCHDOG=1), 0, pack_sockaddr_un(\"\\0\" . substr $ENV{NOTIFY_SOCKET}, 1); \
    open my $file, q(>), q(/run/scratch/beat); sleep 1000'";

const NO_HEARTBEAT: &str = "emperor: app: killed: the app has given no heartbeat for 1.0 s; up ";

#[test]
fn an_app_that_gives_its_only_heartbeat_at_once_is_watched() {
    sandboxed(|sandbox| {
        let faulty = sandbox.faulty();
        sandbox.vassal(
            "app",
            &format!(
                "uid = user001\nexec-as-user = {}\nexec-as-user = until [ -e /run/scratch/go ]; do sleep \
                 0.02; done\n\
                 chdir = /app\n{BEAT}",
                faulty.command("/app", "")
            ),
        );
        let emperor = sandbox.emperor(&["--emperor-required-heartbeat", "1"]);
        emperor.wait_for("as-user #1");
        // Between fork and exec it waits for the filesystem. PID 1 sees the exec and the heartbeat at the
        // same time.
        faulty.behave("hold");
        sandbox.file("go", "");
        let init = emperor.pid_of_started("app");
        let is_held =
            |process: &process::Process| process.parent == init && process::waits_for_fuse(process.pid);
        until("the app waits", || process::all().iter().any(is_held));
        process::signal(init, Signal::STOP);
        faulty.behave("");
        until("the heartbeat", || fs::exists("/run/scratch/beat").unwrap());
        process::signal(init, Signal::CONT);
        emperor.wait_for(NO_HEARTBEAT);
        emperor.stop();
    });
}

#[test]
fn an_app_that_gives_its_only_heartbeat_before_its_reload_is_through_is_watched() {
    sandboxed(|sandbox| {
        let hook = "exec-post-app = until [ -e /run/scratch/go ]; do sleep 0.02; done";
        let lines = format!("if-reload =\n{hook}\n{BEAT}\nelse =\ncommand = sleep 1000\nendif =");
        let path = sandbox.vassal("app", &lines);
        let emperor = sandbox.emperor(&["--emperor-required-heartbeat", "1"]);
        let init = emperor.wait_running(1, "app");
        run("touch", &[path.to_str().unwrap()]);
        until("the heartbeat", || fs::exists("/run/scratch/beat").unwrap());
        // It has taken that in.
        process::wait_asleep(init);
        sandbox.file("go", "");
        emperor.wait_for("emperor: app: reloaded after ");
        emperor.wait_for(NO_HEARTBEAT);
        emperor.stop();
    });
}

#[test]
fn an_app_may_trigger_its_watchdog_and_need_not_feed_it_while_it_stops() {
    sandboxed(|sandbox| {
        let say = |words: &str| {
            format!(
                "command = perl -MSocket -e 'socket my $s, AF_UNIX, SOCK_DGRAM, 0; my $to = \
                 pack_sockaddr_un(\"\\0\" . substr $ENV{{NOTIFY_SOCKET}}, 1); \
                 send $s, $_, 0, $to for qw({words}); select undef, undef, undef, 0.02 until -e \
                     q(/run/scratch/go)'"
            )
        };
        sandbox.vassal("stuck", &say("WATCHDOG=trigger"));
        sandbox.vassal("stopping", &say("WATCHDOG=1 STOPPING=1"));
        // Gives its last heartbeat later than the other one.
        sandbox.vassal("silent", &say("WATCHDOG=1"));
        let emperor = sandbox.emperor(&["--emperor-required-heartbeat", "1", "--emperor-throttle", "60000"]);
        emperor.wait_for("emperor: stuck: killed: the app has triggered its watchdog; up ");
        emperor.wait_for("emperor: stopping: the app is stopping by itself");
        sandbox.vassal("silent", &(say("WATCHDOG=1") + "\n"));
        emperor.wait_for("emperor: silent: killed: the app has given no heartbeat for 1.0 s; up ");
        emperor.wait_for_nth(2, "emperor: silent: started (pid");
        emperor.wait_for_nth(2, "emperor: silent: the app has given no heartbeat");
        sandbox.file("go", "");
        emperor.wait_for("emperor: stopping: app exited with status 0");
        emperor.stop();
    });
}

#[test]
fn an_app_that_is_restarted_on_a_new_mount_is_not_asked_for_heartbeats_meanwhile() {
    sandboxed(|sandbox| {
        sandbox.zip();
        let beat = "perl -MSocket -e 'socket my $s, AF_UNIX, SOCK_DGRAM, 0; my $to = \
            pack_sockaddr_un(\"\\0\" . substr $ENV{NOTIFY_SOCKET}, 1); \
             for (@ARGV) { send $s, $_, 0, $to } sleep 1000'";
        let wait = "until [ ! -e /run/scratch/wait ]; do sleep 0.02; done; ";
        let mounted = MOUNTED.replace("fuse-zip", &format!("{wait}fuse-zip"));
        let path = sandbox.vassal(
            "app",
            &format!("{mounted}\nmountpoint-lost = remount\ncommand = {beat} READY=1 WATCHDOG=1"),
        );
        let control = sandbox.path("control");
        let emperor =
            sandbox.emperor(&["--emperor-required-heartbeat", "5", "--control", control.to_str().unwrap()]);
        let is_ready = || {
            let mut command = sandbox.program("emperor");
            let output = command.args(["status", "--json", "app", "--control", control.to_str().unwrap()]);
            String::from_utf8(output.output().unwrap().stdout).unwrap().contains("\"ready\":true")
        };
        until("the app is ready", is_ready);
        sandbox.file("wait", "");
        process::signal(process::only("fuse-zip").pid, Signal::KILL);
        emperor.wait_for("; running as-user again and restarting the app");
        until("the app is not ready", || !is_ready());
        // Its time begins later.
        sandbox.vassal("silent", &format!("command = {beat} WATCHDOG=1"));
        emperor.wait_for("emperor: silent: the app has given no heartbeat for 5.0 s");
        fs::remove_file(sandbox.path("wait")).unwrap();
        emperor.wait_for("mounted again and running, ");
        until("the app is ready again", is_ready);
        let silence = "emperor: app: the app has given no heartbeat";
        let log = emperor.log();
        let (before, _) = log.split_once("mounted again and running, ").unwrap();
        assert!(!before.contains(silence), "{log}");
        // The new one is to go on giving them.
        emperor.wait_for(&format!("{silence} for 5.0 s: killing pid "));
        fs::remove_file(path).unwrap();
        emperor.stop();
    });
}

#[test]
fn an_app_that_ends_does_not_wait_for_the_hooks_of_its_start() {
    sandboxed(|sandbox| {
        let ready = "open my $fd, q(>&=), $ENV{UWSGI_EMPEROR_FD}; syswrite $fd, chr 5; sleep 1 until -e \
            q(/run/scratch/hook); exit 7";
        for phase in ["post-app", "accepting"] {
            let lines = format!(
                "exec-{phase} = touch /run/scratch/hook; exec sleep 1000\ncommand = perl -e '{}'",
                ready.replace("sleep 1", "select undef, undef, undef, 0.01")
            );
            let mut vassal = sandbox.vassal_init(phase, &lines);
            assert_eq!(vassal.wait(), 7, "{phase}");
            fs::remove_file(sandbox.path("hook")).unwrap();
        }
    });
}

#[test]
fn why_an_app_is_not_ready_is_told_to_who_asks_or_waits() {
    sandboxed(|sandbox| {
        go(sandbox);
        let check = "exec:test -e /run/scratch/go || { echo the database is gone; exit 1; }";
        let lines = format!("ready-check = {check}\nready-check-interval = 20ms\ncommand = sleep 1000");
        sandbox.vassal("app", &format!("uid = user001\n{lines}"));
        let emperor = sandbox.emperor(&["--metrics", "/run/metrics"]);
        let ask = |words: &[&str]| {
            let output = sandbox.program("emperor").args(words).output().unwrap();
            String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
        };
        let metric = || run("/usr/bin/curl", &["-sS", "--unix-socket", "/run/metrics", "http://x/"]);
        emperor.wait_for("emperor: app: ready to accept requests after ");
        assert!(metric().contains("\nvassal_ready{vassal=\"app\"} 1\n"), "{}", metric());
        fs::remove_file(sandbox.path("go")).unwrap();
        let why = "ready-check: test -e /run/scratch/go || { echo the database is gone; exit: exited \
                   with status 1: the database is gone (/etc/uwsgi/vassals/app.ini:3:15)";
        until("the reload waits in vain, and says why", || {
            let told = ask(&["reload", "app", "--wait=1s"]);
            assert!(told.contains("not done in time: app: ") || told.contains("failures in a row"), "{told}");
            told.contains(&format!(", says: {why}"))
        });
        until("it is a problem", || {
            let table = ask(&["status", "--problems"]);
            table.contains(" not ready ") && table.contains(&format!("  {why}"))
        });
        assert!(ask(&["status", "app"]).contains(&format!("           Says: {why}\n")));
        assert!(ask(&["status", "--json"]).contains(&format!("\"status\":\"{why}\"")));
        // The next program is not told again.
        assert!(ask(&["upgrade"]).ends_with("has taken over 1 vassal\n"));
        assert!(ask(&["status", "--json"]).contains(&format!("\"status\":\"{why}\"")));
        assert!(metric().contains("\nvassal_ready{vassal=\"app\"} 0\n"), "{}", metric());
        go(sandbox);
        emperor.wait_for_nth(2, "emperor: app: ready to accept requests after ");
        assert!(ask(&["status", "--json"]).contains("\"status\":null"));
        emperor.stop();
    });
}
