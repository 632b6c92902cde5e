//! Namespaces of its own for each test.

use std::any::type_name;
use std::cell::RefCell;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Daemon, SLOWNESS, UP, eventually, process, run, slowness, until};

/// Tells the test, started anew, that it is inside.
const INSIDE: &str = "VASSAL_TEST_SANDBOX";
/// What the inner run prints once the test has really run and passed.
const PASSED: &str = "the sandboxed test has passed";
/// Stands before what a test would have needed root for.
const NEEDS_ROOT: &str = "needs root: ";
/// Where a test writes; every user may.
const SCRATCH: &str = "/run/scratch";
/// A hang must not last for ever. What only takes long, beside others, has the time.
const LIMIT_S: u32 = 300;

/// PID 1 of a sandbox: furnishes it, runs the test, and reaps its orphans, which the test itself would not.
/// What a process inherits from its starter is the same in every sandbox, however the tests were started.
const FURNISH: &str = r#"
    set -e
    umask 022
    ulimit -c 0
    ulimit -n 1024
    # Who is not root may not take back what its starter has given away.
    renice -n 0 $$ >/dev/null 2>&1 || [ "$(id -u)" = 0 ]
    for file in /proc/$$/fd/*; do
        number=${file##*/}
        [ "$number" -le 2 ] || eval "exec $number>&-"
    done
    ip link set lo up
    mkdir -p /etc/uwsgi
    for directory in /etc/uwsgi /var/www /run; do
        mount -t tmpfs -o mode=755 sandbox "$directory"
    done
    mkdir -m 1777 /run/scratch
    cd /
    status=0
    "$@" || status=$?
    exit "$status"
"#;

/// A test's own world; see the module's documentation.
pub struct Sandbox {
    bin: PathBuf,
    /// What the test has mounted itself.
    mounted: RefCell<Vec<String>>,
}

/// Runs the calling test in a sandbox. It must be the test's only statement: the closure's name tells the
/// test's.
pub fn sandboxed<F: FnOnce(&Sandbox)>(test: F) {
    let sandbox = Sandbox { bin: binaries(), mounted: RefCell::default() };
    if std::env::var_os(INSIDE).is_some() {
        return sandbox.live(test);
    }
    let path = type_name::<F>();
    let name = path.split_once("::").and_then(|(_, rest)| rest.split_once("::{{closure}}"));
    let name = name.unwrap_or_else(|| panic!("{path} is no closure of a test")).0;
    let limit = (LIMIT_S * slowness()).to_string();
    let output = Command::new("timeout")
        .args(["--signal=KILL", &limit, "unshare", "--mount", "--propagation", "private", "--pid", "--net"])
        .args(["--ipc", "--fork", "--kill-child=KILL", "--mount-proc"])
        // A session of its own: where the kernel shares the CPUs out among sessions (autogroup, sched(7)),
        // thousands of processes in one sandbox leave the others their share.
        .args(["setsid", "env", "--default-signal", "bash", "-c", FURNISH, "sandbox"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("VASSAL_DIST", &sandbox.bin)
        .env(SLOWNESS, slowness().to_string())
        .env(INSIDE, "1")
        .output()
        .expect("timeout and unshare");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.contains(PASSED), "{}\n{text}", output.status);
    if let Some(what) = text.lines().find_map(|line| line.rsplit_once(NEEDS_ROOT)) {
        // Past the harness, which shows what tests print only if they fail.
        let _ = writeln!(std::io::stdout(), "test {name} {NEEDS_ROOT}{}", what.1);
    }
}

/// Where the static binaries are.
fn binaries() -> PathBuf {
    let bin = std::env::var_os("VASSAL_DIST").expect("VASSAL_DIST is not set: run scripts/test");
    assert!(
        Path::new("/dev/fuse").exists() && Path::new("/app").is_dir(),
        "not on a stage: run scripts/test"
    );
    bin.into()
}

/// Whether root here is root of the machine, and not of an ordinary user's namespace.
fn is_root_of_machine() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

impl Sandbox {
    /// Whether the rest of the test is left out, as it takes root of the machine for `what`. scripts/test
    /// counts these; where root runs it, there are none.
    pub fn needs_root(&self, what: &str) -> bool {
        let lacks = !is_root_of_machine();
        if lacks {
            println!("{NEEDS_ROOT}{what}");
        }
        lacks
    }

    fn live(&self, test: impl FnOnce(&Self)) {
        let mounts = mount_table();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            test(self);
            until("no process is left", || process::all().iter().all(process::Process::is_of_sandbox));
        }));
        if let Err(panic) = ended {
            self.show_logs();
            resume_unwind(panic);
        }
        for place in self.mounted.borrow().iter().rev() {
            // Lazily: the tool itself may have a file of it open, such as /dev/null.
            run("umount", &["--lazy", place]);
        }
        let left: Vec<_> = mount_table().into_iter().filter(|mount| !mounts.contains(mount)).collect();
        assert_eq!(left, [""; 0], "mounts are left");
        println!("{PASSED}");
    }

    fn show_logs(&self) {
        for process in process::all().iter().filter(|process| !process.is_of_sandbox()) {
            // Where the kernel says it, what the process waits for.
            let stack = fs::read_to_string(format!("/proc/{}/stack", process.pid)).unwrap_or_default();
            println!("left: {process:?}\n{stack}");
        }
        let mut logs: Vec<_> = fs::read_dir(SCRATCH).unwrap().map(|entry| entry.unwrap().path()).collect();
        logs.sort();
        for log in logs.iter().filter(|path| path.extension().is_some_and(|suffix| suffix == "log")) {
            println!("--- {} ---\n{}", log.display(), String::from_utf8_lossy(&fs::read(log).unwrap()));
        }
    }

    /// A path below the sandbox's scratch directory.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(SCRATCH).join(name)
    }

    /// Writes a file of the scratch directory.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// One of our programs, to be started.
    pub fn program(&self, name: &str) -> Command {
        Command::new(self.bin.join(name))
    }

    /// `vassal-init` under another program's name, to be started.
    pub fn personality(&self, name: &str) -> Command {
        let directory = self.path("names");
        fs::create_dir_all(&directory).unwrap();
        let link = directory.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(self.bin.join("vassal-init"), &link).unwrap();
        }
        Command::new(link)
    }

    /// One of our programs, to be started by `wrapper`, a command that executes its last arguments.
    pub fn wrapped(&self, wrapper: &[&str], name: &str) -> Command {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(self.bin.join(name));
        command
    }

    /// `vassal-init` running `NAME.ini` with these lines below `[uwsgi]`, in pid and mount namespaces of its
    /// own.
    pub fn vassal_init(&self, name: &str, lines: &str) -> Daemon {
        let mut command = self.program("vassal-init");
        command.args(["--unshare", "fs,pid"]).arg(self.ini(name, lines));
        Daemon::start(command, self.path(&format!("{name}.log")))
    }

    /// An ini file of the scratch directory.
    pub fn ini(&self, name: &str, lines: &str) -> PathBuf {
        self.file(&format!("{name}.ini"), &format!("[uwsgi]\n{lines}\n"))
    }

    /// Starts a command whose log is `NAME.log`.
    pub fn start(&self, name: &str, command: Command) -> Daemon {
        Daemon::start(command, self.path(&format!("{name}.log")))
    }

    /// An emperor of `/etc/uwsgi/vassals`, as the tutorial configures it, with further options.
    pub fn emperor(&self, options: &[&str]) -> Daemon {
        fs::create_dir_all(VASSALS).unwrap();
        self.emperor_alone(options)
    }

    /// The same, without seeing to the directory.
    pub fn emperor_alone(&self, options: &[&str]) -> Daemon {
        let mut command = self.program("emperor");
        fs::write("/etc/uwsgi/emperor.ini", super::tutorial::EMPEROR_INI).unwrap();
        command.arg("/etc/uwsgi/emperor.ini").args(options);
        self.start("emperor", command)
    }

    /// Waits until all vassals that run have run for [`UP`] by the clock of the emperor, which stands still
    /// while it cannot run itself. `options` are those of `emperor status`.
    pub fn until_up(&self, options: &[&str]) {
        until("all have run for a second", || {
            let status = self.program("emperor").args(["status", "--json"]).args(options).output().unwrap();
            let text = String::from_utf8_lossy(&status.stdout);
            let is_young = |rest: &str| {
                let time = rest.split([',', '}']).next().and_then(|time| time.parse().ok());
                time.is_some_and(|time: f64| time < UP.as_secs_f64())
            };
            !text.is_empty() && !text.split("\"uptime\":").skip(1).any(is_young)
        });
    }

    /// Writes a vassal's file with these lines below `[uwsgi]`, in one step as a careful editor does.
    pub fn vassal(&self, name: &str, lines: &str) -> PathBuf {
        fs::create_dir_all(VASSALS).unwrap();
        let draft = Path::new(VASSALS).join(format!("{name}.draft"));
        fs::write(&draft, format!("[uwsgi]\n{lines}\n")).unwrap();
        let path = vassal_path(name);
        fs::rename(draft, &path).unwrap();
        path
    }

    /// Gives a command to the emperor. Returns its exit status and all that it prints.
    pub fn control(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.program("emperor").args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
    }

    /// The rows of status for a vassal.
    pub fn status(&self, name: &str) -> String {
        let text = self.control(&["status", name]).1;
        text.split_once("\n\n").map_or(text.clone(), |(rows, _)| rows.to_owned())
    }

    /// The pid of an instance, from the table of status. Waits for it: an app answers before the emperor
    /// hears of it, and the first of a set has no number until then.
    pub fn pid_in_status(&self, instance: &str) -> i32 {
        eventually(format_args!("{instance} in the table"), || {
            let table = self.control(&["status"]).1;
            let row = table.lines().find(|line| line.split_whitespace().next() == Some(instance))?;
            row.split_whitespace().nth(2)?.parse().ok()
        })
    }

    /// Puts lines behind those of a file of `/etc`, for this sandbox only.
    pub fn append_to(&self, path: &str, lines: &str) {
        let copy = self.path(&path.replace('/', "_"));
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        fs::copy(path, &copy).unwrap();
        fs::OpenOptions::new().append(true).open(&copy).unwrap().write_all(lines.as_bytes()).unwrap();
        self.mount(&["--bind", copy.to_str().unwrap()], path);
    }

    /// What `/etc/subuid` and `/etc/subgid` grant, for this sandbox only.
    pub fn grant_ids(&self, lines: &str) {
        for file in ["/etc/subuid", "/etc/subgid"] {
            if !self.mounted.borrow().iter().any(|place| place == file) {
                self.append_to(file, "");
            }
            fs::write(file, lines).unwrap();
        }
    }

    /// Mounts something for the rest of the test.
    pub fn mount(&self, what: &[&str], place: &str) {
        run("mount", &[what, &[place]].concat());
        self.mounted.borrow_mut().push(place.to_owned());
    }
}

/// The directory of the emperor's vassals.
pub const VASSALS: &str = "/etc/uwsgi/vassals";

/// A vassal's file.
pub fn vassal_path(name: &str) -> PathBuf {
    Path::new(VASSALS).join(format!("{name}.ini"))
}

/// The mounts of this namespace, whatever their propagation.
fn mount_table() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = |line: &str| {
        let (place, filesystem) = line.split_once(" - ").unwrap();
        let place: Vec<_> = place.split(' ').take(6).collect();
        format!("{} {filesystem}", place.join(" "))
    };
    text.lines().map(mount).collect()
}
