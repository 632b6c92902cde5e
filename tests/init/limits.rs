//! Cgroups and other limits. On a machine whose controllers are all in hierarchies of version 1, what needs
//! one of version 2 is tested for its refusal, and what does not, for real.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::common::cgroups::{self, OutermostCgroup, UNUSED};
use crate::common::sandbox::vassal_path;
use crate::common::{Daemon, Sandbox, eventually, process, run, sandboxed, slowness, until};
use rustix::process::Signal;

/// A vassal that runs until it is asked to stop.
const STEADY: &str = "command = sleep 1000";

/// A directory in a hierarchy that is removed at the end, with what is in it.
struct Group(PathBuf, #[allow(dead_code)] Option<OutermostCgroup>);

impl Group {
    /// In the hierarchy of version 2.
    fn unified(name: &str) -> Self {
        let outermost = OutermostCgroup::open();
        Self::below(&outermost.path.clone(), name, Some(outermost))
    }

    fn below(mount: &Path, name: &str, outermost: Option<OutermostCgroup>) -> Self {
        let group = Self(cgroups::of_test(mount, name), outermost);
        if group.0.exists() {
            // A test that was killed has left it.
            group.remove();
        }
        fs::create_dir(&group.0).unwrap();
        group
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn remove(&self) {
        cgroups::remove(&self.0);
    }

    fn has_controller(&self, name: &str) -> bool {
        fs::read_to_string(self.0.join("cgroup.controllers"))
            .unwrap()
            .split_whitespace()
            .any(|there| there == name)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A test that has failed may have left processes in it, and is to tell of itself.
        if !std::thread::panicking() {
            self.remove();
        }
    }
}

/// The cgroup of version 2 that a process is in.
fn cgroup_of(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

#[test]
fn a_vassal_starts_in_a_cgroup_and_ends_with_it() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let group = Group::unified("starts");
        // Without a pid namespace, what the hook leaves behind outlives a killed PID 1, but not the cgroup.
        sandbox.vassal(
            "a b",
            "exec-asap = cat /proc/self/cgroup\nexec-as-root = setsid sleep 2000 &\ncommand = sleep 1000",
        );
        let emperor = sandbox.emperor(&["--emperor-cgroup", group.path(), "--emperor-use-clone", "fs"]);
        let pid = emperor.wait_running(1, "a b");
        assert!(cgroup_of(pid).ends_with("/v-a b"), "{}", cgroup_of(pid));
        emperor.wait_for("/v-a b");
        until("daemon and app", || process::named("sleep").len() == 2);
        let first: Vec<_> = process::named("sleep").iter().map(|process| process.pid).collect();
        run("kill", &["-KILL", &pid.to_string()]);
        emperor.wait_for("emperor: a b: vassal-init killed by SIGKILL");
        emperor.wait_running(2, "a b");
        until("the daemon of the first one is gone", || {
            let now = process::named("sleep");
            now.len() == 2 && now.iter().all(|process| !first.contains(&process.pid))
        });
        emperor.stop();
        assert!(!group.0.join("v-a b").exists(), "the emperor has left the cgroup");
    });
}

#[test]
fn a_deep_and_wide_tree_of_cgroups_holds_nobody_up_and_is_removed() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let group = Group::unified("tree");
        sandbox.vassal("a", STEADY);
        sandbox.vassal("b", STEADY);
        let options =
            ["--emperor-cgroup", group.path(), "--emperor-use-clone", "fs", "--emperor-throttle", "100"];
        let emperor = sandbox.emperor(&options);
        let pid = emperor.wait_running(1, "a");
        let other = emperor.wait_running(1, "b");
        // As a vassal may make them that its owner has given its cgroup to.
        let top = group.0.join("v-a");
        let wide = top.join("w");
        (0..1500).for_each(|number| fs::create_dir_all(wide.join(number.to_string())).unwrap());
        fs::create_dir_all(top.join("d/".repeat(400))).unwrap();
        run("kill", &["-KILL", &pid.to_string()]);
        emperor.wait_for("emperor: a: vassal-init killed by SIGKILL");
        // The other vassal is reloaded as if nothing were.
        run("touch", &[vassal_path("b").to_str().unwrap()]);
        emperor.wait_for("emperor: b: reloaded after ");
        assert_eq!(emperor.pid_of("b"), other);
        emperor.wait_running(2, "a");
        assert!(!wide.exists() && !top.join("d").exists(), "the old cgroups are left");
        emperor.stop();
        assert!(!top.exists());
    });
}

#[test]
fn a_cgroup_full_of_processes_is_removed_when_they_have_ended() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let group = Group::unified("full");
        // What is killed has not ended when the kill has been sent.
        let processes = 300 / slowness();
        let fill = format!("for i in $(seq {processes}); do setsid sleep 2000 & done");
        let lines = format!("hook-timeout = 5m\nexec-as-root = {fill}\ncommand = sleep 1000");
        sandbox.vassal("a", &lines);
        let options = ["--emperor-cgroup", group.path(), "--emperor-use-clone", "fs"];
        // No next instance comes and removes it, unless the app was up for a second, on a busy machine.
        let emperor = sandbox.emperor(&[&options[..], &["--emperor-throttle", "100000"]].concat());
        let pid = emperor.wait_running(1, "a");
        let which = || fs::metadata(group.0.join("v-a")).ok().map(|there| there.ino());
        let first = which();
        assert!(first.is_some());
        run("kill", &["-KILL", &pid.to_string()]);
        emperor.wait_for("emperor: a: vassal-init killed by SIGKILL");
        until("its cgroup is gone", || which() != first);
        emperor.stop();
    });
}

#[test]
fn each_instance_has_a_cgroup_of_its_own_and_leaves_none() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let group = Group::unified("own");
        let inner = |name: &str| group.0.join(name).join(".inner/deep");
        let app =
            |name: &str| format!("command = sh -c 'mkdir -p \"{}\"; exec sleep 1000'", inner(name).display());
        sandbox.vassal("app", &app("v-app"));
        // The kernel takes no newline in the name of a cgroup.
        let odd = vassal_path("o\nd");
        fs::write(&odd, format!("[uwsgi]\n{STEADY}\n")).unwrap();
        let emperor = sandbox.emperor(&["--emperor-cgroup", group.path(), "--emperor-use-clone", "fs,pid"]);
        emperor.wait_for("emperor: o\\nd: running after ");
        let pid = emperor.wait_running(1, "app");
        until("it has cgroups of its own", || inner("v-app").exists());
        run("kill", &["-KILL", &pid.to_string()]);
        emperor.wait_running(2, "app");
        assert_eq!(emperor.lines("emperor: app: started (pid ").len(), 2, "{}", emperor.log());
        until("so has the next one", || inner("v-app").exists());
        for path in [vassal_path("app"), odd] {
            fs::remove_file(path).unwrap();
        }
        until("their cgroups are gone", || {
            fs::read_dir(&group.0).unwrap().all(|entry| !entry.unwrap().file_type().unwrap().is_dir())
        });
        emperor.stop();
    });
}

#[test]
fn an_upgrade_to_another_directory_of_cgroups_leaves_nothing_in_the_old_one() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let (old, new) = (Group::unified("old"), Group::unified("new"));
        let lines = "exec-as-root = setsid sleep 2000 &\ncommand = sleep 1000";
        sandbox.vassal("app", lines);
        let configure = |group: &Group| {
            fs::write("/etc/uwsgi/more.ini", format!("[uwsgi]\nemperor-cgroup = {}\n", group.path()))
                .unwrap();
        };
        configure(&old);
        let emperor = sandbox.emperor(&["--emperor-use-clone", "fs", "--ini", "/etc/uwsgi/more.ini"]);
        let pid = emperor.wait_running(1, "app");
        until("daemon and app", || process::named("sleep").len() == 2);
        let first: Vec<_> = process::named("sleep").iter().map(|process| process.pid).collect();
        configure(&new);
        run(sandbox.program("emperor").get_program().to_str().unwrap(), &["upgrade"]);
        run("kill", &["-KILL", &pid.to_string()]);
        let pid = emperor.wait_running(2, "app");
        assert!(cgroup_of(pid).contains("-new-"), "{}", cgroup_of(pid));
        until("the daemon of the first one is gone", || {
            process::named("sleep").iter().all(|process| !first.contains(&process.pid))
        });
        emperor.stop();
        until("its cgroup is gone", || {
            !old.0.join("v-app").exists() || fs::remove_dir(old.0.join("v-app")).is_ok()
        });
    });
}

#[test]
fn a_controller_is_enabled_on_the_way_down_and_the_emperor_makes_way() {
    const LIMIT: &str = "hugetlb.2MB.max";
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let machines = OutermostCgroup::alone();
        let group = Group::below(&machines.path, "way", None);
        let outermost = |file: &str| fs::read_to_string(group.0.with_file_name(file)).unwrap();
        assert!(outermost("cgroup.controllers").contains(UNUSED), "this machine has no {UNUSED}");
        sandbox.vassal("a", STEADY);
        // As a service manager starts it: in the cgroup that is delegated to it.
        let enter = format!("echo 0 > '{}/cgroup.procs'; exec \"$0\" \"$@\"", group.path());
        let mut command = sandbox.wrapped(&["sh", "-c", &enter], "emperor");
        command.args(["--emperor", "/etc/uwsgi/vassals", "--emperor-cgroup"]).arg(group.0.join("vassals"));
        command.args(["--cgroup-opt", &format!("{LIMIT}=4194304")]);
        let emperor = sandbox.start("emperor", command);
        emperor.wait_running(1, "a");
        let limit = group.0.join("vassals/v-a").join(LIMIT);
        assert_eq!(fs::read_to_string(limit).unwrap(), "4194304\n");
        // What there is in the directory is there for what the vassals make in their own.
        let given = fs::read_to_string(group.0.join("vassals/cgroup.subtree_control")).unwrap();
        assert!(given.contains(UNUSED), "{given}");
        assert!(cgroup_of(emperor.pid()).ends_with("/emperor-main"), "{}", cgroup_of(emperor.pid()));
        emperor.stop();

        // A vassal's own `cgroup` is the same, but nobody makes way.
        let cgroup = group.0.join("other/inner");
        fs::create_dir(cgroup.parent().unwrap()).unwrap();
        let lines = format!("cgroup = {}\ncgroup-opt = {LIMIT}=2097152\n{STEADY}", cgroup.display());
        let vassal = sandbox.vassal_init("alone", &lines);
        vassal.wait_for("app started");
        assert_eq!(fs::read_to_string(cgroup.join(LIMIT)).unwrap(), "2097152\n");
        drop(vassal);
        until("no process is left in them", || process::named("sleep").is_empty());
        drop(group);
        machines.give_back();
        machines.is_as_it_was();
    });
}

#[test]
fn a_vassal_with_ids_of_its_own_has_the_limits_of_its_file() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        sandbox.grant_ids("root:1000000:655360\n");
        let group = Group::unified("shares");
        let others = Group::unified("others");
        for (name, lines) in [
            ("a", "cgroup-opt = cgroup.max.depth=3"),
            ("b", "cgroup-opt = cgroup.max.depth=none"),
            ("c", &format!("cgroup = {}", others.path())),
        ] {
            sandbox.vassal(name, &format!("uid = root\n{lines}\n{STEADY}"));
        }
        let options =
            ["--emperor-use-clone=user,fs,pid", "--map-users=auto", "--cgroup-opt=cgroup.max.depth=9"];
        let emperor = sandbox.emperor(&[&["--emperor-cgroup", group.path()], &options[..]].concat());
        emperor.wait_running(1, "a");
        assert_eq!(fs::read_to_string(group.0.join("v-a/cgroup.max.depth")).unwrap(), "3\n");
        let line = emperor.wait_for("emperor: b: setup failed in limits: /etc/uwsgi/vassals/b.ini:3:14: ");
        assert!(line.contains("v-b/cgroup.max.depth: Invalid argument (EINVAL)"), "{line}");
        let line = emperor.wait_for("emperor: c: setup failed in limits: /etc/uwsgi/vassals/c.ini:3:10: ");
        assert!(line.contains("cgroup.procs: Permission denied (EACCES)"), "{line}");
        emperor.stop();
    });
}

#[test]
fn what_cannot_be_limited_is_an_error_or_a_warning() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let group = Group::unified("limits");
        let there = group.has_controller("memory");
        sandbox.vassal("a", "memory-max = 100M\ncommand = sleep 1000");
        sandbox.vassal("b", "memory-max = 100M\ncgroup-optional\ncommand = sleep 1000");
        let emperor = sandbox.emperor(&["--emperor-cgroup", group.path(), "--emperor-throttle", "100000"]);
        emperor.wait_running(1, "b");
        if there {
            emperor.wait_running(1, "a");
            assert_eq!(fs::read_to_string(group.0.join("v-a/memory.max")).unwrap(), "104857600\n");
        } else {
            let file = group.0.join("v-a/memory.max");
            emperor.wait_for(&format!(
                "emperor: a: setup failed in limits: /etc/uwsgi/vassals/a.ini:2:14: memory-max: write {}: \
                 the cgroup has no controller 'memory' for it (there: ",
                file.display()
            ));
            let line =
                emperor.wait_for("v-b/memory.max: the cgroup has no controller 'memory' for it (there: ");
            assert!(line.ends_with("; going on without, as cgroup-optional says"), "{line}");
        }
        emperor.stop();

        // The same for all, by the emperor's own word.
        let options =
            ["--emperor-cgroup", group.path(), "--emperor-throttle", "100000", "--cgroup-opt", "no.such=1"];
        fs::remove_file("/etc/uwsgi/vassals/a.ini").unwrap();
        let emperor = sandbox.emperor(&options);
        emperor.wait_for("emperor: b: cannot start: command line: cgroup-opt: write ");
        emperor.stop();
        let emperor = sandbox.emperor(&[&options[..], &["--cgroup-optional"]].concat());
        emperor.wait_running(1, "b");
        emperor.wait_for("emperor: b: command line: cgroup-opt: write ");
        emperor.stop();

        let mut emperor = sandbox.emperor(&["--emperor-cgroup", "/run/scratch/none"]);
        assert_eq!(emperor.wait(), 1);
        emperor.wait_for("emperor-cgroup: use /run/scratch/none: not in a cgroup hierarchy of version 2");
    });
}

/// A cgroup, and an option that limits the memory of one below it to 40 MiB. Where memory is accounted for
/// differs: version 1 beside version 2, or version 2 alone.
fn memory(name: &str) -> (Group, &'static str) {
    if Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
        return (Group::below(Path::new("/sys/fs/cgroup/memory"), name, None), "memory.limit_in_bytes=40M");
    }
    let group = Group::unified(name);
    assert!(group.has_controller("memory"), "this machine limits no memory at all");
    fs::write(group.0.join("cgroup.subtree_control"), "+memory").unwrap();
    (group, "memory.max=40M")
}

/// A vassal that has ended with this status, less than a second after the kernel has killed: later, PID 1 has
/// told that the app goes on.
fn ended_soon(sandbox: &Sandbox, lines: &str, status: i32) -> Daemon {
    eventually("an end soon after the kill", || {
        let mut vassal = sandbox.vassal_init("hungry", lines);
        assert_eq!(vassal.wait(), status);
        Some(vassal).filter(|vassal| vassal.lines("the app goes on").is_empty())
    })
}

#[test]
fn the_uwsgi_way_and_an_app_that_runs_out_of_memory() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let (group, limit) = memory("oom");
        let lines = format!(
            "cgroup = {}/inner\ncgroup-opt = {limit}\n\
             command = perl -e 'my $x = \"x\" x 400_000_000; sleep 1000'",
            group.path()
        );
        ended_soon(sandbox, &lines, 137).wait_for(
            "app killed by SIGKILL: out of memory (processes of its cgroup that the kernel has killed: 1)",
        );
        sandbox.vassal("hungry", &lines);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("emperor: hungry: app killed by SIGKILL: out of memory (");
        emperor.stop();
    });
}

#[test]
fn an_app_that_fails_for_want_of_memory_of_another_process_says_so() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let (group, limit) = memory("child");
        let lines = format!(
            "cgroup = {}/inner\ncgroup-opt = {limit}\n\
             command = sh -c 'perl -e \"my \\$x = q(x) x 400_000_000\"; exit 5'",
            group.path()
        );
        ended_soon(sandbox, &lines, 5)
            .wait_for(": command), out of memory: the kernel has killed 1 of its processes");
    });
}

#[test]
fn only_what_the_app_itself_dies_of_is_its_end() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let (group, limit) = memory("worker");
        // Its worker is killed for want of memory; it itself goes on.
        let lines = format!(
            "cgroup = {}/inner\ncgroup-opt = {limit}\n\
             command = perl -e 'if (fork == 0) {{ my @x; push @x, \"x\" x 1_000_000 for 1..400; exit }} \
             wait; sleep 1000'",
            group.path()
        );
        let mut vassal = sandbox.vassal_init("master", &lines);
        vassal.wait_for(
            "out of memory: processes of the cgroup that the kernel has killed: 1; the app goes on",
        );
        // Somebody else's SIGKILL is not the kernel's.
        run("kill", &["-KILL", &process::named("perl")[0].pid.to_string()]);
        assert_eq!(vassal.wait(), 137);
        vassal.wait_for("app killed by SIGKILL (");
        assert_eq!(vassal.lines("app killed by SIGKILL: out of memory"), [""; 0]);
        assert_eq!(vassal.lines("out of memory").len(), 1);
    });
}

#[test]
fn an_app_that_may_have_no_more_processes_is_told_of_in_the_log_once() {
    // Version 1 does not announce it: the end of an orphan has PID 1 look.
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let group = match Path::new("/sys/fs/cgroup/pids/cgroup.procs").exists() {
            true => Group::below(Path::new("/sys/fs/cgroup/pids"), "pids", None),
            false => {
                let group = Group::unified("pids");
                fs::write(group.0.join("cgroup.subtree_control"), "+pids").unwrap();
                group
            }
        };
        let app = sandbox.file(
            "app",
            "sub nap { select undef, undef, undef, 0.01 }\n\
             sub try { for (1..30) { my $pid = fork; exec 'sleep', '1000' if defined $pid && !$pid } }\n\
             sub say_so { open my $file, '>', \"/run/scratch/$_[0]\" }\n\
             if (fork == 0) { if (fork == 0) { nap until -e '/run/scratch/once' } exit } wait;\n\
             try; say_so 'once'; nap until -e '/run/scratch/go';\n\
             try; say_so 'twice'; sleep 1000",
        );
        let lines = format!(
            "cgroup = {}/inner\ncgroup-opt = pids.max=10\ncommand = perl {}",
            group.path(),
            app.display()
        );
        let mut vassal = sandbox.vassal_init("bomb", &lines);
        vassal.wait_for("the cgroup may have no more processes (pids.max): ");
        until("it has tried", || Path::new("/run/scratch/once").exists());
        // Some of its children may not have executed their program yet.
        until("it has started some", || !process::named("sleep").is_empty());
        let processes = process::named("sleep").len();
        assert!(processes < 9, "{processes}");
        fs::write("/run/scratch/go", "").unwrap();
        until("it has tried again", || Path::new("/run/scratch/twice").exists());
        assert_eq!(vassal.lines("the cgroup may have no more processes").len(), 1);
        vassal.signal(Signal::TERM);
        vassal.wait();
    });
}

#[test]
fn each_option_goes_to_the_cgroups_that_have_it() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("cgroups") {
            return;
        }
        let ((group, limit), other) = (memory("both"), Group::unified("other"));
        let cgroups = format!("cgroup = {}/inner\ncgroup = {}/inner\n", group.path(), other.path());
        let options = format!("cgroup-opt = {limit}\ncgroup-opt = cgroup.max.depth=7\n");
        let vassal = sandbox.vassal_init("both", &format!("{cgroups}{options}command = sleep 1000"));
        vassal.wait_for("app started");
        let file = limit.split('=').next().unwrap();
        assert_eq!(fs::read_to_string(group.0.join("inner").join(file)).unwrap(), "41943040\n");
        assert_eq!(fs::read_to_string(other.0.join("inner/cgroup.max.depth")).unwrap(), "7\n");
        drop(vassal);

        let mut vassal =
            sandbox.vassal_init("none", &format!("{cgroups}cgroup-opt = no.such=1\ncommand = true"));
        assert_eq!(vassal.wait(), 71);
        vassal.wait_for("none.ini:4:14: cgroup-opt: write ");

        let mut vassal = sandbox.vassal_init("plain", "cgroup = /run/scratch/plain\ncommand = true");
        assert_eq!(vassal.wait(), 71);
        vassal.wait_for("cgroup: enter /run/scratch/plain: it is no cgroup: it lacks cgroup.procs");
        if limit.starts_with("memory.limit") {
            let lines = format!("cgroup = {}/inner\nmemory-max = 40M\ncommand = true", group.path());
            let mut vassal = sandbox.vassal_init("old", &lines);
            assert_eq!(vassal.wait(), 71);
            vassal.wait_for(
                "memory.max: 'memory-max' needs a cgroup of version 2; for others there is cgroup-opt",
            );
        }
        until("no process is left in them", || process::named("sleep").is_empty());
    });
}

#[test]
fn limits_of_the_app_are_set_before_it_starts() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("users above 65536") {
            return;
        }
        // A user of this test's: the kernel counts the processes of one on the whole machine.
        let lines = "uid = 1234567\ngid = 1234567\nlimit-as = 500\nlimit-nofile = 100\nlimit-nproc = 50\n\
                     oom-score-adj = 321\n\
                     exec-as-user = ulimit -n | sed 's/^/hook /'\ncommand = sleep 1000";
        let vassal = sandbox.vassal_init("limited", lines);
        vassal.wait_for("app started");
        let app = eventually("the app", || process::named("sleep").into_iter().next()).pid;
        let limits = fs::read_to_string(format!("/proc/{app}/limits")).unwrap();
        let limit = |name: &str| {
            let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).take(2).collect::<Vec<_>>()
        };
        assert_eq!(limit("Max address space"), ["524288000", "524288000"]);
        assert_eq!(limit("Max open files"), ["100", "100"]);
        assert_eq!(limit("Max processes"), ["50", "50"]);
        assert_eq!(fs::read_to_string(format!("/proc/{app}/oom_score_adj")).unwrap(), "321\n");
        assert_ne!(vassal.wait_for("hook "), "hook 100", "hooks are not limited");
        drop(vassal);
        // As for uWSGI, 0 is no limit.
        let lines =
            "limit-as = 0\nlimit-nproc = 0\nlimit-nofile = 0\ncommand = sh -c 'ulimit -v; true | true'";
        let mut vassal = sandbox.vassal_init("zero", lines);
        assert_eq!(vassal.wait(), 0, "{}", vassal.log());
        vassal.wait_for("unlimited");
    });
}

/// The nice value of a process (field 19 of proc_pid_stat(5)).
fn nice_of(pid: i32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(16).unwrap().parse().unwrap()
}

/// Whatever that of whoever starts it is, and whether it is more or less.
#[test]
fn an_app_has_its_nice_value_and_hooks_that_of_pid_1() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("nice values") {
            return;
        }
        let own = nice_of(std::process::id() as i32).to_string();
        for (user, value) in [("uid = user001", "-7"), ("uid = user001", "19"), ("", "-20"), ("", "5")] {
            let lines =
                format!("{user}\nexec-as-user = nice\nexec-pre-app = nice\nnice = {value}\ncommand = nice");
            assert_eq!(sandbox.said(&lines), [own.as_str(), own.as_str(), value], "{lines}");
        }
        let mut command = sandbox.wrapped(&["nice", "-n", "15"], "vassal-init");
        command.arg(sandbox.ini("vassal", "uid = user001\nnice = 3\ncommand = nice"));
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "3\n", "{output:?}");
        // For a command, too.
        let output = sandbox.program("vassal-init").args(["--nice", "7", "--", "nice"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "7\n", "{output:?}");
        for value in ["-21", "20", "", "x"] {
            let output =
                sandbox.program("vassal-init").args(["--nice", value, "--", "nice"]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("is not a number from -20 to 19"), "{value}: {said}");
        }
    });
}

/// Its right is one that PID 1 has given up where no nice value was asked for.
#[test]
fn a_reload_changes_a_nice_value_or_asks_for_a_fresh_jail() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("nice values") {
            return;
        }
        let vassal = |nice: &str| sandbox.vassal("a", &format!("uid = user001\n{nice}\n{STEADY}"));
        let own = nice_of(std::process::id() as i32);
        vassal("");
        let emperor = sandbox.emperor(&[]);
        let mut init = emperor.wait_running(1, "a");
        let mut app = process::only("sleep").pid;
        let (mut starts, mut reloads) = (1, 0);
        for (line, nice, is_fresh) in [
            ("nice = 5", 5, true),
            ("nice = -5", -5, false),
            ("nice = 7", 7, false),
            ("", own, true),
            ("nice = -5", -5, true),
        ] {
            vassal(line);
            let next = eventually("another app", || match process::named("sleep").as_slice() {
                [next] if next.pid != app => Some(next.pid),
                _ => None,
            });
            // An edit that meets an instance which still starts would not be a reload.
            if is_fresh {
                starts += 1;
                emperor.wait_running(starts, "a");
            } else {
                reloads += 1;
                emperor.wait_for_nth(reloads, "emperor: a: reloaded after ");
            }
            assert_eq!((nice_of(next), emperor.pid_of("a") != init), (nice, is_fresh), "{line}");
            (app, init) = (next, emperor.pid_of("a"));
        }
        assert_eq!(emperor.lines("setup failed"), [""; 0]);
        emperor.stop();
    });
}
