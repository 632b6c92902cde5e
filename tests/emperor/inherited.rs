//! What a vassal's processes have from root, or could get at: programs, keys, the terminal, signals.

use crate::common::{process, run, sandboxed};

/// Executes the program that the emperor has copied, as user001 and traced by root, so that it stands still
/// at its first instruction; and has another process of user001 try to get at it.
const AT_ITS_FIRST_INSTRUCTION: &str = r#"
import ctypes, os, pwd, sys
libc = ctypes.CDLL(None, use_errno=True)
user = pwd.getpwnam("user001")
links = [f"/proc/{sys.argv[1]}/fd/{n}" for n in os.listdir(f"/proc/{sys.argv[1]}/fd")]
program, = [link for link in links if "memfd:vassal-init" in os.readlink(link)]
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
        assert!(emperor.is_running() && process::named("sleep").len() == 1);
        emperor.stop();
    });
}
