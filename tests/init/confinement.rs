//! What the app may do: nothing that it was not given, for good; and what PID 1 keeps for itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::cow::PIVOTED;
use crate::common::{Sandbox, eventually, process, sandboxed};

/// `net_bind_service`, by its bit.
const NET_BIND_SERVICE: u64 = 1 << 10;
/// kill, setgid, setuid and setpcap: what PID 1 still needs.
const PID1: u64 = 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;

/// A field of a status file, as a number.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).expect(name);
    u64::from_str_radix(line.trim(), 16).unwrap()
}

/// The capability sets, and NoNewPrivs.
#[derive(Debug, PartialEq, Eq)]
struct Sets {
    inheritable: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
    no_new_privs: u64,
}

fn sets(status: &str) -> Sets {
    Sets {
        inheritable: field(status, "CapInh"),
        permitted: field(status, "CapPrm"),
        effective: field(status, "CapEff"),
        bounding: field(status, "CapBnd"),
        ambient: field(status, "CapAmb"),
        no_new_privs: field(status, "NoNewPrivs"),
    }
}

/// What one capability set, or none, looks like everywhere.
fn exactly(kept: u64, bounding: u64, no_new_privs: u64) -> Sets {
    Sets { inheritable: kept, permitted: kept, effective: kept, bounding, ambient: kept, no_new_privs }
}

/// The sets of a process that prints its status.
fn printed(sandbox: &Sandbox, lines: &str) -> Sets {
    sets(&sandbox.said(lines).join("\n"))
}

const STATUS: &str = "cat /proc/self/status";

/// The bounding set of this machine.
fn all() -> u64 {
    field(&fs::read_to_string("/proc/self/status").unwrap(), "CapBnd")
}

#[test]
fn the_app_has_nothing_and_gets_nothing() {
    sandboxed(|sandbox| {
        assert_eq!(printed(sandbox, &format!("uid = user001\ncommand = {STATUS}")), exactly(0, 0, 1));
        let lines = format!("uid = user001\nunprivileged-binary-patch-arg = {STATUS}");
        assert_eq!(printed(sandbox, &lines), exactly(0, 0, 1));
    });
}

#[test]
fn named_capabilities_bind_root_too() {
    sandboxed(|sandbox| {
        let left = |bits| Sets { inheritable: 0, ambient: 0, ..exactly(bits, bits, 1) };
        for user in ["", "uid = root\n", "uid = 0\ngid = 0\n", "gid = user001\n"] {
            let lines = |cap: &str| format!("{user}{cap}\ncommand = {STATUS}");
            assert_eq!(printed(sandbox, &lines("cap = net_bind_service")), left(NET_BIND_SERVICE), "{user}");
            let both = lines("cap = net_bind_service,kill\ncap-drop = kill");
            assert_eq!(printed(sandbox, &both), left(NET_BIND_SERVICE), "{user}");
            // Programs with files' capabilities, or that are set-user-id, bring none back.
            let lines = lines("cap = net_bind_service\nno-new-privs = false");
            assert_eq!(
                printed(sandbox, &lines),
                Sets { no_new_privs: 0, ..left(NET_BIND_SERVICE) },
                "{user}"
            );
        }
        // What it had been called: root that traces PID 1.
        let trace = "python3 -c 'import ctypes; print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))'";
        let traced = |cap: &str| sandbox.said(&format!("{cap}\ncommand = {trace}"));
        assert_eq!(traced("cap = net_bind_service"), ["-1"]);
    });
}

#[test]
fn named_capabilities_are_kept_and_no_other() {
    sandboxed(|sandbox| {
        let kept = |bits| exactly(bits, bits, 1);
        let lines = |cap: &str| format!("uid = user001\ncap = {cap}\ncommand = {STATUS}");
        assert_eq!(printed(sandbox, &lines("net_bind_service")), kept(NET_BIND_SERVICE));
        assert_eq!(printed(sandbox, &lines("net_bind_service,sys_nice")), kept(NET_BIND_SERVICE | 1 << 23));
        // One that PID 1 keeps too must not mean more.
        assert_eq!(printed(sandbox, &lines("kill")), kept(1 << 5));
        // And it works: a port that is root's.
        let perl = r#"print bind(S, sockaddr_in(80, INADDR_ANY)) ? "bound" : "refused: $!", "\n""#;
        let bind = format!("perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); {perl}'");
        let lines = |cap: &str| format!("uid = user001\n{cap}\ncommand = {bind}");
        assert_eq!(sandbox.said(&lines("cap = net_bind_service")), ["bound"]);
        assert_eq!(sandbox.said(&lines("")), ["refused: Permission denied"]);
        sandbox.is_invalid("uid = user001\ncap = net_bind_servic", "net_bind_service");
    });
}

/// A set-user-id `cat`, and a file that only root may read.
fn set_user_id(sandbox: &Sandbox) -> String {
    let program = sandbox.path("cat");
    fs::copy("/usr/bin/cat", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let secret = sandbox.file("secret", "roots\n");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    format!("sh -c '{} {} 2>/dev/null || echo refused'", program.display(), secret.display())
}

#[test]
fn set_user_id_programs_work_only_where_that_is_asked_for() {
    sandboxed(|sandbox| {
        let read = set_user_id(sandbox);
        assert_eq!(sandbox.said(&format!("uid = user001\ncommand = {read}")), ["refused"]);
        let lines = "uid = user001\nno-new-privs = false\ncommand = ";
        assert_eq!(sandbox.said(&format!("{lines}{read}")), ["roots"]);
        assert_eq!(printed(sandbox, &format!("{lines}{STATUS}")), exactly(0, all(), 0));
        // With a capability of its own it still has no other.
        let lines = lines.replace("command", "cap = net_bind_service\ncommand");
        assert_eq!(printed(sandbox, &format!("{lines}{STATUS}")), exactly(NET_BIND_SERVICE, all(), 0));
    });
}

#[test]
fn hooks_have_no_capabilities_either_but_may_use_fusermount() {
    sandboxed(|sandbox| {
        let read = set_user_id(sandbox);
        for phase in ["as-user", "pre-app", "post-app", "as-user-atexit"] {
            let lines =
                format!("uid = user001\ncap = net_bind_service\nexec-{phase} = {STATUS}\ncommand = true");
            assert_eq!(printed(sandbox, &lines), exactly(0, all(), 0), "{phase}");
            assert_eq!(
                sandbox.said(&format!("uid = user001\nexec-{phase} = {read}\ncommand = true")),
                ["roots"],
                "{phase}"
            );
        }
        let lines = format!("uid = user001\nexec-as-root = {STATUS}\ncommand = true");
        assert_eq!(
            printed(sandbox, &lines),
            sets(&fs::read_to_string("/proc/self/status").unwrap()),
            "as-root"
        );
    });
}

#[test]
fn hooks_of_the_user_are_confined_as_the_app_is_where_that_is_asked_for() {
    sandboxed(|sandbox| {
        let read = set_user_id(sandbox);
        let policy = "uid = user001\ncap = net_bind_service\nlimit-nofile = 77\nnice = 7\nseccomp = default\n\
                      confine-hooks = true";
        let state = "ulimit -n; nice; grep Seccomp: /proc/self/status; cat /proc/self/status";
        for phase in ["as-user", "pre-app", "post-app", "as-user-atexit"] {
            let said = sandbox.said(&format!("{policy}\nexec-{phase} = {state}\ncommand = true"));
            assert_eq!(&said[..3], ["77", "7", "Seccomp:\t2"], "{phase}");
            let confined = exactly(NET_BIND_SERVICE, NET_BIND_SERVICE, 1);
            assert_eq!(sets(&said.join("\n")), confined, "{phase}");
            let lines = format!("uid = user001\nconfine-hooks\nexec-{phase} = {read}\ncommand = true");
            assert_eq!(sandbox.said(&lines), ["refused"], "{phase}");
        }
        // Those of root are not.
        let said = sandbox.said(&format!("{policy}\nexec-as-root = {state}\ncommand = true"));
        assert_eq!(sets(&said.join("\n")), sets(&fs::read_to_string("/proc/self/status").unwrap()));
        assert_eq!((said[0].as_str(), said[2].as_str()), ("1024", "Seccomp:\t0"));
        // Root's own app, and its hooks, lose what is dropped.
        let lines = format!("cap-drop = all\nconfine-hooks\nexec-as-user = {STATUS}\ncommand = true");
        assert_eq!(printed(sandbox, &lines), exactly(0, 0, 1));
        // A limit that cannot be had is the fault of its key, not of the hook's.
        let lines = "uid = user001\nlimit-nofile = 4096\nconfine-hooks\nexec-as-user = true";
        let mut command = sandbox.wrapped(&["prlimit", "--nofile=100"], "vassal-init");
        command.arg(sandbox.ini("vassal", &format!("{lines}\ncommand = true")));
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("setup failed in as-user #1: limit open files to 4096: "), "{said}");
        assert!(said.contains("vassal.ini:3:16: limit-nofile)"), "{said}");
    });
}

#[test]
fn root_stays_root_where_nobody_says_otherwise() {
    sandboxed(|sandbox| {
        let own = sets(&fs::read_to_string("/proc/self/status").unwrap());
        let app = printed(sandbox, &format!("command = {STATUS}"));
        assert_eq!((app.permitted, app.no_new_privs), (own.permitted, 1));
        let app = printed(sandbox, "uid = user001\nprivileged-binary-patch-arg = cat /proc/self/status");
        assert_eq!((app.permitted, app.no_new_privs), (own.permitted, 0));
    });
}

#[test]
fn pid_1_keeps_only_what_its_remaining_plan_needs() {
    sandboxed(|sandbox| {
        for (lines, kept) in [
            ("uid = user001", PID1),
            ("uid = user001\ncap = net_bind_service", PID1 | NET_BIND_SERVICE),
            ("", all()),
        ] {
            let mut vassal = sandbox.vassal_init(
                "vassal",
                &format!("{lines}\nexec-as-user-atexit = id -un\ncommand = sleep 1000"),
            );
            vassal.wait_for("app started");
            let init = process::only("sleep").parent;
            let has = eventually("its status", || fs::read_to_string(format!("/proc/{init}/status")).ok());
            assert_eq!((field(&has, "CapEff"), field(&has, "CapPrm")), (kept, kept), "{lines}");
            assert_eq!(field(&has, "CapInh"), 0);
            // It can still stop the user's app, and become the user for the exit hook.
            vassal.signal(rustix::process::Signal::TERM);
            assert_eq!(vassal.wait(), 143);
            let user = if lines.is_empty() { "root" } else { "user001" };
            assert!(vassal.log().lines().any(|line| line == user), "{}", vassal.log());
        }
    });
}

#[test]
fn a_tenant_cannot_touch_pid_1() {
    sandboxed(|sandbox| {
        let app = "perl -e 'print kill(0, 1) ? \"may signal it\\n\" : \"may not: $!\\n\"; print \
            -r \"/proc/1/root/\" ? \"sees its root\\n\" : \"does not\\n\"; print \
            open(F, \"+<\", \"/proc/1/mem\") ? \"reads it\\n\" : \"nor read\\n\"'";
        let said = sandbox.said(&format!("uid = user001\nmount-as-root = proc none /proc\ncommand = {app}"));
        assert_eq!(said, ["may not: Operation not permitted", "does not", "nor read"]);
    });
}

#[test]
fn nothing_that_the_starter_left_open_leads_out_of_the_jail() {
    sandboxed(|sandbox| {
        sandbox.copied_tree();
        fs::write("/run/secret", "the host's").unwrap();
        let app = "cat /proc/1/fd/9/run/secret; echo over";
        let ini = sandbox.ini("vassal", &format!("{PIVOTED}\ncommand = sh -c '{app}'"));
        let mut command = sandbox.wrapped(&["bash", "-c", r#"exec "$0" "$@" 9</"#], "vassal-init");
        command.args(["--unshare", "fs,pid"]).arg(ini);
        let mut vassal = sandbox.start("vassal", command);
        assert_eq!(vassal.wait(), 0, "{}", vassal.log());
        let log = vassal.log();
        assert!(log.contains("over\n") && !log.contains("the host's"), "{log}");
    });
}

/// What `vassal-init` with these arguments, started by a wrapper, came to: its status and all that was
/// written.
fn wrapped(sandbox: &Sandbox, wrapper: &[&str], arguments: &[&str]) -> (Option<i32>, String) {
    let output = sandbox.wrapped(wrapper, "vassal-init").args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Root with these capabilities only, in the bounding set too, as container runtimes make it.
fn root_with(capabilities: &str) -> Vec<String> {
    ["setpriv", "--inh-caps", "-all", "--bounding-set"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("-all{capabilities}")])
        .collect()
}

#[test]
fn root_without_capabilities_uses_every_option_that_asks_for_nothing_more() {
    sandboxed(|sandbox| {
        let place = sandbox.path("mount");
        fs::create_dir(&place).unwrap();
        let place = place.to_str().unwrap();
        sandbox.mount(&["-t", "tmpfs", "none"], place);
        for capabilities in ["", ",+setuid", ",+setgid", ",+setuid,+setgid", ",+kill", ",+setpcap"] {
            let wrapper = root_with(capabilities);
            let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
            for options in [
                &["--umask", "022"][..],
                &["--mountpoint-timeout", "20", "--mountpoint-check", place],
                &["--user", "0"],
                &["--user", "0:0"],
                // Not in the bounding set, so nothing is there to be dropped.
                &["--cap-drop", "net_raw,sys_admin"],
            ] {
                let (status, said) =
                    wrapped(sandbox, &wrapper, &[options, &["--", "echo", "the app"]].concat());
                assert_eq!(status, Some(0), "{capabilities} {options:?}: {said}");
                assert!(said.contains("the app\n"), "{capabilities} {options:?}: {said}");
            }
        }
        // All that is left is dropped, if that is possible.
        for (capabilities, status) in [("", 0), (",+setpcap,+kill", 0), (",+kill", 71)] {
            let wrapper = root_with(capabilities);
            let wrapper: Vec<_> = wrapper.iter().map(String::as_str).collect();
            let app = ["--cap-drop", "all", "--", "cat", "/proc/self/status"];
            let (ended, said) = wrapped(sandbox, &wrapper, &app);
            assert_eq!(ended, Some(status), "{capabilities}: {said}");
            match status {
                0 => assert_eq!(sets(&said), exactly(0, 0, 0), "{capabilities}"),
                _ => {
                    assert!(said.contains("privilege drop: bounding set: Operation not permitted"), "{said}")
                }
            }
        }
    });
}

#[test]
fn a_prober_that_cannot_become_the_owner_of_a_mount_says_why() {
    sandboxed(|sandbox| {
        let place = sandbox.path("mount");
        fs::create_dir(&place).unwrap();
        let place = place.to_str().unwrap();
        sandbox.mount(&["-t", "tmpfs", "none"], place);
        let privileged = ["--inh-caps", "+setuid,+setgid", "--ambient-caps", "+setuid,+setgid"];
        let user = ["setpriv", "--reuid", "9000", "--regid", "9000", "--clear-groups"];
        let filter = sandbox.filter(&[libc::SYS_setresuid], libc::EPERM);
        let filter: Vec<_> = filter.iter().map(String::as_str).collect();
        let options =
            |timeout| ["--mountpoint-timeout", timeout, "--mountpoint-check", place, "--", "echo", "the app"];
        let (status, said) = wrapped(sandbox, &[&user[..], &privileged, &filter].concat(), &options("1"));
        assert_eq!(status, Some(71), "{said}");
        let why = "its prober died: privilege drop: setresuid 0: Operation not permitted (EPERM)";
        assert!(said.contains(why), "{said}");
        // Without the capabilities it asks as what it is.
        let (status, said) = wrapped(sandbox, &[&user[..], &filter].concat(), &options("20"));
        assert_eq!(status, Some(0), "{said}");
    });
}
