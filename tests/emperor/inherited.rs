//! What a vassal's processes have from root, or could get at: programs, keys, the terminal, signals.

use std::fs;

use crate::common::sandbox::VASSALS;
use crate::common::tutorial::EMPEROR_INI;
use crate::common::{process, run, sandboxed};

/// Executes the program that the emperor has copied, as user001 and traced by root, so that it stands still
/// at its first instruction; and has another process of user001 try to get at it.
const AT_ITS_FIRST_INSTRUCTION: &str = r#"
import ctypes, os, pwd, sys
libc = ctypes.CDLL(None, use_errno=True)
user = pwd.getpwnam("user001")
links = [f"/proc/{sys.argv[1]}/fd/{n}" for n in os.listdir(f"/proc/{sys.argv[1]}/fd")]
def leads(link):
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return "" # closed since
program, = [link for link in links if "memfd:vassal-init" in leads(link)]
fd = os.open(program, os.O_RDONLY)
def become_user():
    os.setgroups([]); os.setresgid(*[user.pw_gid] * 3); os.setresuid(*[user.pw_uid] * 3)
traced = os.fork()
if traced == 0:
    libc.ptrace(0, 0, 0, 0)
    become_user()
    os.execve(fd, ["vassal-init", "--version"], {})
assert os.WIFSTOPPED(os.waitpid(traced, 0)[1])
def attempt(what, path, flags):
    try:
        os.open(path, flags); print(what, "ok")
    except OSError as error:
        print(what, os.strerror(error.errno))
attacker = os.fork()
if attacker == 0:
    become_user()
    attempt("read", f"/proc/{traced}/exe", os.O_RDONLY)
    attempt("memory", f"/proc/{traced}/mem", os.O_RDWR)
    attempt("write", f"/proc/self/fd/{fd}", os.O_RDWR)
    sys.stdout.flush()
    os._exit(0)
os.waitpid(attacker, 0)
os.kill(traced, 9)
"#;

#[test]
fn a_user_cannot_trace_or_block_the_program_that_root_starts() {
    sandboxed(|sandbox| {
        let mut emperor = sandbox.emperor(&[]);
        emperor.wait_for("watching");
        let script = sandbox.file("attack.py", AT_ITS_FIRST_INSTRUCTION);
        let said = run("python3", &[script.to_str().unwrap(), &emperor.pid().to_string()]);
        let denied = "Permission denied";
        let expected = format!("read {denied}\nmemory {denied}\nwrite {denied}\n");
        assert_eq!(said, expected);
        // Those who may start it, can.
        sandbox.vassal("app", "uid = user001\ncommand = sleep 1000");
        emperor.wait_running(1, "app");
        process::only("sleep");
        assert!(emperor.is_running());
        emperor.stop();
    });
}

/// Puts a key into the session keyring, or looks for one, and executes the rest of its words or waits.
const KEYS: &str = r#"
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
ADD, REQUEST, CONTROL = NUMBERS
for word in sys.argv[1].split(","):
    what, name = word.split(":")
    if what == "join":
        assert libc.syscall(CONTROL, 1, None) > 0
    elif what == "add":
        assert libc.syscall(ADD, b"user", name.encode(), b"secret", 6, -3) > 0
    else:
        found = libc.syscall(REQUEST, b"user", name.encode(), None, 0) > 0
        print(sys.argv[2] if len(sys.argv) == 3 else "", name, "found" if found else "not found", flush=True)
if len(sys.argv) > 3:
    os.execvp(sys.argv[3], sys.argv[3:])
elif len(sys.argv) == 3:
    time.sleep(1000)
"#;

#[test]
fn keys_of_root_and_of_other_vassals_are_out_of_reach() {
    sandboxed(|sandbox| {
        let numbers =
            [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl].map(|call| call.to_string());
        let script = sandbox.file("keys.py", &KEYS.replace("NUMBERS", &numbers.join(", ")));
        let script = script.to_str().unwrap();
        let with_key = ["python3", script, "join:,add:of-root", "starter"];
        // A command stands in for its starter.
        let mut command = sandbox.wrapped(&with_key, "vassal-init");
        command.args(["--", "python3", script, "look:of-root"]);
        let mut command = sandbox.start("command", command);
        assert_eq!(command.wait(), 0);
        assert!(command.log().contains("of-root found"), "{}", command.log());

        fs::create_dir_all(VASSALS).unwrap();
        fs::write("/etc/uwsgi/emperor.ini", EMPEROR_INI).unwrap();
        let mut emperor = sandbox.wrapped(&with_key, "emperor");
        emperor.arg("/etc/uwsgi/emperor.ini");
        let emperor = sandbox.start("emperor", emperor);
        for (name, other) in [("one", "two"), ("two", "one")] {
            let words = format!("look:of-root,add:{name},look:{other}");
            sandbox.vassal(name, &format!("uid = user001\ncommand = python3 {script} {words} {name}"));
            for key in ["of-root", other] {
                emperor.wait_for(&format!("{name} {key} not found"));
            }
        }
        assert_eq!(emperor.lines(" found").len(), 4, "{}", emperor.log());
        emperor.stop();
    });
}
