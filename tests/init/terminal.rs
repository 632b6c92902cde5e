//! Commands on a real terminal: Ctrl-C, Ctrl-Z, `fg` and `bg`, under a shell and without one.

use crate::common::{PATIENCE, Sandbox, process, run, sandboxed, until};

/// An interactive shell, and what it shows when it waits for a command.
const SHELL: &[&str] =
    &["env", "PS1=READY> ", "TINI_SUBREAPER=1", "bash", "--norc", "--noprofile", "--noediting", "-i"];
const PROMPT: &str = "?READY> ";
const CTRL_C: &str = r"\x03";
const CTRL_Z: &str = r"\x1a";
const CTRL_D: &str = r"\x04";

/// A command that says when it is continued; without print(), which its own signal handler may interrupt. (A
/// shell that starts one program after the other will not do: stopped between vfork and exec, such a program
/// keeps its shell from being stopped. Nor will pause(2): Python has its handler wait for the next signal if
/// one comes just before.)
const JOB: &str = r#"
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGCONT, lambda *_: os.write(1, b"goes on\n"))
if len(sys.argv) > 1:
    signal.signal(signal.SIGINT, lambda *_: os._exit(3))
os.write(1, b"it runs\n")
while True:
    time.sleep(0.02)
"#;

/// Runs a command on a terminal, takes these steps and returns its exit status; see terminal.py.
fn on_terminal(command: &[&str], steps: &[&str]) -> i32 {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/terminal.py");
    let limit = PATIENCE.as_secs().to_string();
    let arguments = [&[script, &limit][..], command, &["--steps"], steps].concat();
    run("/usr/bin/python3", &arguments).trim().parse().unwrap()
}

fn names(sandbox: &Sandbox, names: &[&str]) -> Vec<String> {
    let path = |name: &&str| match *name {
        "vassal-init" => sandbox.program(name).get_program().display().to_string(),
        name => sandbox.personality(name).get_program().display().to_string(),
    };
    names.iter().map(path).collect()
}

/// The same steps for each of these names, typed to a shell; INIT stands for the name.
fn in_shell(sandbox: &Sandbox, personalities: &[&str], steps: &[&str]) {
    sandbox.file("job", JOB);
    for init in names(sandbox, personalities) {
        let steps: Vec<_> = steps.iter().map(|step| step.replace("INIT", &init)).collect();
        let steps: Vec<_> = [PROMPT]
            .into_iter()
            .chain(steps.iter().map(String::as_str))
            .chain([PROMPT, r"exit 7\r"])
            .collect();
        assert_eq!(on_terminal(SHELL, &steps), 7, "{init}");
        until("nothing runs", || process::named("sleep").is_empty());
    }
}

const LONG: &str = r#"INIT -- python3 /run/scratch/job\r"#;
const RUNS: &str = "?it runs\r";
const STATUS: &str = r"echo status $?\r";

#[test]
fn ctrl_c_ends_the_command() {
    sandboxed(|sandbox| {
        in_shell(
            sandbox,
            &["vassal-init", "tini", "catatonit", "dumb-init"],
            &[LONG, RUNS, CTRL_C, PROMPT, STATUS, "?status 130\r"],
        );
    });
}

#[test]
fn ctrl_c_and_ctrl_backslash_end_the_script_around_it() {
    sandboxed(|sandbox| {
        for options in ["", "--chdir /", "--unshare fs,pid", "--unshare fs"] {
            // A bash ignores the other signal, and goes on without us, too.
            for (keys, status, shells) in [(CTRL_C, 130, &["bash", "dash"][..]), (r"\x1c", 131, &["dash"])] {
                for shell in shells {
                    let line = format!(
                        concat!(
                            "{} -c 'for i in 1 2 3; do INIT {} -- python3 /run/scratch/job; done; ",
                            r"touch /run/scratch/on'\r"
                        ),
                        shell, options
                    );
                    let ended = format!(r"?status {status}\r");
                    let steps = [
                        &line,
                        RUNS,
                        keys,
                        PROMPT,
                        STATUS,
                        &ended,
                        r"[ -e /run/scratch/on ] || echo not $((40 + 2))\r",
                        "?not 42\r",
                    ];
                    in_shell(sandbox, &["vassal-init"], &steps);
                }
            }
        }
    });
}

#[test]
fn a_starter_sees_by_which_signal_of_the_terminal_the_command_has_ended() {
    sandboxed(|sandbox| {
        sandbox.file("job", JOB);
        let starter = "import signal, subprocess, sys\n\
             signal.signal(2, lambda *_: 0)\n\
             sys.exit(40 - subprocess.Popen(sys.argv[1:]).wait())";
        let job = ["--", "python3", "/run/scratch/job"];
        let init = &names(sandbox, &["vassal-init"])[0];
        for (options, handler, status) in [
            (&[][..], &[][..], 42),
            (&["--chdir", "/"], &[], 42),
            (&["--unshare", "pid"], &[], 42),
            // It has ended by itself, or such an end is forgiven.
            (&[], &["3"], 37),
            (&["-e", "130"], &[], 40),
        ] {
            let command = [&["python3", "-c", starter, init], options, &job, handler].concat();
            assert_eq!(on_terminal(&command, &["?it runs\r", CTRL_C]), status, "{options:?}");
        }
    });
}

#[test]
fn a_script_goes_on_when_only_its_command_got_the_signal() {
    sandboxed(|sandbox| {
        let line = concat!(
            r#"bash -c 'INIT -- sh -c "echo it runs; kill -INT \\$PPID; exec sleep 1000"; "#,
            r"echo goes on $((40 + 2))'\r"
        );
        in_shell(sandbox, &["vassal-init"], &[line, "?goes on 42\r"]);
    });
}

#[test]
fn ctrl_z_suspends_and_fg_resumes() {
    sandboxed(|sandbox| {
        let steps = [
            LONG,
            RUNS,
            CTRL_Z,
            "?Stopped",
            PROMPT,
            r"jobs\r",
            "?Stopped",
            PROMPT,
            r"fg\r",
            "?goes on\r",
            CTRL_Z,
            "?Stopped",
            PROMPT,
            r"fg\r",
            "?goes on\r",
            CTRL_C,
            PROMPT,
            STATUS,
            "?status 130\r",
        ];
        in_shell(sandbox, &["vassal-init", "tini", "catatonit", "dumb-init"], &steps);
    });
}

#[test]
fn ctrl_z_stops_a_whole_pipeline() {
    sandboxed(|sandbox| {
        let line = r#"INIT -- python3 /run/scratch/job | cat\r"#;
        in_shell(
            sandbox,
            &["vassal-init", "tini"],
            &[line, RUNS, CTRL_Z, "?Stopped", PROMPT, r"fg\r", "?goes on\r", CTRL_C],
        );
    });
}

#[test]
fn bg_goes_on_in_the_background() {
    sandboxed(|sandbox| {
        let steps = [
            LONG,
            RUNS,
            CTRL_Z,
            "?Stopped",
            PROMPT,
            r"bg\r",
            PROMPT,
            r"jobs -r\r",
            "?Running",
            PROMPT,
            r"kill %1; wait %1; echo status $?\r",
            "?status 143\r",
        ];
        in_shell(sandbox, &["vassal-init", "tini", "dumb-init"], &steps);
    });
}

#[test]
fn a_background_job_leaves_the_terminal_to_the_shell() {
    sandboxed(|sandbox| {
        // It says when it is in the foreground: its starter's process group is that of the terminal.
        let line = concat!(
            "INIT -- sh -c 'echo it runs; while :; do sleep 0.01; ",
            "read -r _ _ _ _ group _ _ front _ </proc/$PPID/stat; ",
            "[ $group != $front ] || echo goes on; done' &",
            r"\r"
        );
        let shell = [r"echo the shell $((40 + 2))\r", "?the shell 42\r", PROMPT];
        let steps = [
            &[line, "?it runs\r"],
            &shell[..],
            &[r"fg\r", "?goes on\r", CTRL_C, PROMPT, STATUS, "?status 130\r"],
        ]
        .concat();
        in_shell(sandbox, &["vassal-init", "tini"], &steps);
    });
}

#[test]
fn a_job_of_the_background_can_read_in_the_foreground() {
    sandboxed(|sandbox| {
        // It runs when the shell brings it to the foreground, so it is not told: it reads, and is stopped for
        // it.
        let line = concat!(
            "INIT -- sh -c 'echo it runs; until [ -e /run/scratch/go ]; do sleep 0.01; done; ",
            r"read x; echo got $x' &\r"
        );
        let steps = [
            line,
            "?it runs\r",
            // Once the shell has given the terminal away.
            concat!(
                "(while read -r _ _ _ _ group _ _ front _ </proc/$$/stat; [ $group = $front ]; ",
                r"do sleep 0.01; done; touch /run/scratch/go) & fg %1\r"
            ),
            "?read x",
            r"yes\r",
            "?got yes\r",
            PROMPT,
            r"rm /run/scratch/go\r",
        ];
        in_shell(sandbox, &["vassal-init", "tini"], &steps);
    });
}

#[test]
fn a_background_job_that_reads_is_stopped() {
    sandboxed(|sandbox| {
        // The shell tells of it before its next prompt.
        let steps = [
            r"INIT -- sh -c 'read x; echo got $x' &\r",
            PROMPT,
            r"until jobs | grep -q Stopped; do sleep 0.01; done; echo it $((40 + 2))\r",
            "?it 42\r",
            r"fg\r",
            "?\n.*INIT.*\n",
            r"hello\r",
            "?got hello\r",
        ];
        let steps: Vec<_> =
            steps.iter().map(|step| step.replace("?\n.*INIT.*\n", "?\n[^\n]*read x[^\n]*\n")).collect();
        let steps: Vec<_> = steps.iter().map(String::as_str).collect();
        in_shell(sandbox, &["vassal-init", "tini"], &steps);
    });
}

#[test]
fn the_terminal_comes_back_to_a_script() {
    sandboxed(|sandbox| {
        let line = r"sh -c 'INIT -- true; read x; echo got $x'\r";
        in_shell(sandbox, &["vassal-init", "tini"], &[line, r"yes\r", "?got yes\r"]);
        let line = r"sh -c 'INIT --unshare fs,pid -- true; read x; echo got $x'\r";
        in_shell(sandbox, &["vassal-init"], &[line, r"yes\r", "?got yes\r"]);
    });
}

#[test]
fn a_command_whose_input_is_elsewhere_has_the_terminal_too() {
    sandboxed(|sandbox| {
        let line = r"INIT -- sh -c 'echo it runs; read x </dev/tty; echo got $x' </dev/null\r";
        in_shell(sandbox, &["vassal-init", "tini", "catatonit"], &[line, RUNS, r"yes\r", "?got yes\r"]);
    });
}

#[test]
fn closed_input_is_no_obstacle() {
    sandboxed(|sandbox| {
        in_shell(
            sandbox,
            &["vassal-init", "tini", "catatonit", "dumb-init"],
            &[r"INIT true <&-; echo status $?\r", "?status 0\r"],
        );
    });
}

#[test]
fn options_that_need_preparation_change_nothing_on_a_terminal() {
    sandboxed(|sandbox| {
        for options in ["--chdir /", "--unshare fs,pid", "--user user001"] {
            let line = format!(r#"INIT {options} -- python3 /run/scratch/job\r"#);
            let steps = [
                &line,
                RUNS,
                CTRL_Z,
                "?Stopped",
                PROMPT,
                r"fg\r",
                "?goes on\r",
                CTRL_C,
                PROMPT,
                STATUS,
                "?status 130\r",
            ];
            in_shell(sandbox, &["vassal-init"], &steps);
        }
    });
}

/// A shell that is the init's command, as in `docker run -it`: its own jobs can be stopped and resumed.
const INNER: &[&str] = &[
    PROMPT,
    r#"python3 /run/scratch/job\r"#,
    RUNS,
    CTRL_Z,
    "?Stopped",
    PROMPT,
    r"fg\r",
    "?goes on\r",
    CTRL_C,
    PROMPT,
    STATUS,
    "?status 130\r",
    PROMPT,
    r"exit 9\r",
];

#[test]
fn without_a_shell_around_it_the_command_has_the_terminal() {
    sandboxed(|sandbox| {
        sandbox.file("job", JOB);
        for init in names(sandbox, &["vassal-init", "tini", "catatonit", "dumb-init"]) {
            for wrapper in [&[][..], &["unshare", "--mount", "--pid", "--fork", "--mount-proc"]] {
                if init.ends_with("dumb-init") && !wrapper.is_empty() {
                    // The terminal belongs to the session of unshare, and cannot change hands.
                    continue;
                }
                let command = [wrapper, &[init.as_str(), "--"], SHELL].concat();
                assert_eq!(on_terminal(&command, INNER), 9, "{command:?}");
            }
        }
    });
}

#[test]
fn without_a_shell_around_it_ctrl_z_stops_nothing() {
    sandboxed(|sandbox| {
        sandbox.file("job", JOB);
        for init in names(sandbox, &["vassal-init", "tini"]) {
            // Typed behind it, Ctrl-C has its effect only if the command was not left stopped.
            let command = [&init, "--", "python3", "/run/scratch/job", "3"];
            assert_eq!(on_terminal(&command, &["?it runs\r", CTRL_Z, CTRL_C]), 3, "{init}");
        }
    });
}

#[test]
fn a_hangup_reaches_the_command() {
    sandboxed(|sandbox| {
        for init in names(sandbox, &["vassal-init", "tini", "dumb-init"]) {
            assert_eq!(
                on_terminal(
                    &[&init, "--", "sh", "-c", "echo it runs; exec sleep 1000"],
                    &["?it runs\r", "!"]
                ),
                129,
                "{init}"
            );
        }
    });
}

#[test]
fn the_end_of_input_is_the_commands() {
    sandboxed(|sandbox| {
        in_shell(
            sandbox,
            &["vassal-init", "tini", "catatonit", "dumb-init"],
            &[r"INIT cat\r", r"line\r", "?line\r\nline\r", CTRL_D, PROMPT, STATUS, "?status 0\r"],
        );
    });
}

/// Tries to type into each terminal that it finds, also by a request with more bits than the kernel looks at;
/// and to get one for its session.
const TYPING: &str = r#"
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
places = [0, 1, 2] + ([] if sys.argv[1:] else [os.open("/dev/tty", os.O_RDWR)])
for place in places:
    for request in (0x5412, 0x1_0000_5412, 0x541c):
        done = libc.syscall(NUMBER, place, ctypes.c_ulong(request), ctypes.c_char_p(b"X"))
        assert done == -1, f"{place} {request:x}: typed"
        if os.isatty(place) and request != 0x541c:
            assert ctypes.get_errno() == errno.EPERM, os.strerror(ctypes.get_errno())
if len(sys.argv) > 1:
    assert not os.path.exists("/dev/tty") or libc.open(b"/dev/tty", 2) == -1, "a terminal"
os.write(1, b"nothing " + b"typed\n")
"#;

#[test]
fn an_app_of_another_user_cannot_type_into_roots_terminal() {
    sandboxed(|sandbox| {
        let script = TYPING.replace("NUMBER", &libc::SYS_ioctl.to_string());
        let script = sandbox.file("typing.py", &script);
        let typing = format!("python3 {}", script.display());
        let user = "uid = user001\ncommand = ";
        sandbox.ini("app", &format!("{user}{typing}"));
        sandbox.ini("free", &format!("no-new-privs = false\n{user}{typing}"));
        sandbox.ini("hook", &format!("exec-as-user = {typing} hook\n{user}true"));
        sandbox.ini("root", &format!("cap-drop = all\ncommand = {typing}"));
        let weak = "setpriv --bounding-set -sys_admin --inh-caps -sys_admin";
        for line in [
            format!("INIT --user user001 -- {typing}"),
            format!("INIT --unshare fs,pid --user user001 -- {typing}"),
            format!("INIT --cap-drop all -- {typing}"),
            format!("{weak} INIT --user user001 --no-new-privs -- {typing}"),
            "INIT --unshare fs,pid /run/scratch/app.ini".into(),
            "INIT /run/scratch/free.ini".into(),
            "INIT /run/scratch/hook.ini".into(),
            format!("{weak} INIT /run/scratch/hook.ini"),
            "INIT --unshare fs,pid /run/scratch/root.ini".into(),
        ] {
            let line = format!(r"{line}; echo status $?\r");
            in_shell(sandbox, &["vassal-init"], &[&line, "?nothing typed", "?status 0\r"]);
        }
    });
}

#[test]
fn a_command_of_another_user_is_a_job_like_any_other() {
    sandboxed(|sandbox| {
        let line = r"INIT --user user001 -- python3 /run/scratch/job\r";
        let steps = [line, RUNS, CTRL_Z, "?Stopped", PROMPT, r"fg\r", "?goes on\r", CTRL_C, PROMPT, STATUS];
        in_shell(sandbox, &["vassal-init"], &[&steps[..], &["?status 130\r"]].concat());
    });
}

#[test]
fn a_vassal_cannot_read_what_is_typed_at_the_terminal_of_its_emperor() {
    sandboxed(|sandbox| {
        let app = sandbox.file("reading.py", READING);
        let vassals = sandbox.path("vassals");
        std::fs::create_dir(&vassals).unwrap();
        std::fs::write(
            vassals.join("app.ini"),
            format!("[uwsgi]\nuid = user001\ncommand = python3 {}\n", app.display()),
        )
        .unwrap();
        let emperor = sandbox.program("emperor").get_program().display().to_string();
        let line = format!(r"{emperor} --emperor {} & \r", vassals.display());
        let steps = [PROMPT, &line, "?1: not open for reading\r", "?2: not open for reading\r"];
        let end = [r"kill $!; wait; exit 7\r"];
        assert_eq!(on_terminal(SHELL, &[&steps[..], &end].concat()), 7);
    });
}

/// Tries to read from its standard output and error, and waits.
const READING: &str = r#"
import fcntl, os, time
for place in (1, 2):
    assert os.isatty(place)
    mode = fcntl.fcntl(place, fcntl.F_GETFL) & os.O_ACCMODE
    os.write(1, b"%d: %s for reading\n" % (place, b"not open" if mode == os.O_WRONLY else b"open"))
time.sleep(1000)
"#;
