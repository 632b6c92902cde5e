//! The tutorial's second example: one tree for all, and a writable layer for each.

use std::fs;
use std::path::Path;
use std::process::Output;

use super::sandbox::{Sandbox, VASSALS, vassal_path};
use super::{Daemon, run, unmount};

/// Word for word.
pub const VASSAL_INI: &str = include_str!("../data/user001.ini");

/// Lines that make `/ns/precise` the root without a FUSE daemon in it.
pub const PIVOTED: &str = "\
hook-pre-jail = mount:none /ns/precise /ufs rbind
pivot_root = /ufs /ufs/.old_root
hook-as-root = mount:proc none /proc
hook-as-root = mount:none /.old_root/dev /dev bind";

/// uWSGI with Perl, a shell and some tools, and what they need.
pub const COPY: &str = r#"
    set -e
    programs=(/usr/bin/{uwsgi,perl,dash,cat,sleep,id,ls,grep,touch} "$(readlink -f /usr/bin/uwsgi)")
    plugins=(/usr/lib/uwsgi/plugins/psgi_plugin.so)
    libraries=($(ldd "${programs[@]}" "${plugins[@]}" | grep -oE '/[^ ]+' | grep -v ':$' | sort -u))
    libraries=("${libraries[@]/#\/lib/\/usr\/lib}")
    libraries=("${libraries[@]/#\/usr\/usr/\/usr}")
    cp -rL --parents "${programs[@]}" "${plugins[@]}" "${libraries[@]}" /ns/precise
    modules=/ns/precise$(perl -MConfig -e 'print $Config{privlib}')
    mkdir -p "$modules"
    cp -rL /usr/lib/*/perl-base/. "$modules"
    cp -L --parents /etc/passwd /etc/group /etc/alternatives/uwsgi /ns/precise 2>/dev/null || true
    ln -s dash /ns/precise/usr/bin/sh
    test -s /ns/precise/etc/passwd
"#;

/// Each request writes a line to a file; the page says what the tenant can see.
const APP: &str = r#"sub {
    open(my $file, '>>', '/tmp/written') or return [500, [], ["/tmp/written: $!\n"]];
    print $file "by the app\n";
    close $file;
    my @seen = (glob('/.old_root/*'), glob('/.old_root/.*[a-z]*'));
    for my $process (glob('/proc/[0-9]*')) {
        # /ns is only to be found in the old root.
        push @seen, grep { -e } ("$process/root/ns", "$process/cwd/ns", glob("$process/fd/*/ns"));
    }
    return [200, ['Content-Type' => 'text/html'], ["seen: @seen\n"]];
}
"#;

impl Sandbox {
    /// The tutorial's layout, with the machine's own programs as the shared tree.
    pub fn namespace_tree(&self) {
        for place in ["/ns", "/ufs"] {
            // On the stage, for all sandboxes: empty, and covered at once.
            fs::create_dir_all(place).unwrap();
            self.mount(&["-t", "tmpfs", "-o", "mode=755", "sandbox"], place);
        }
        let tree = Path::new("/ns/precise");
        for dir in [".old_root", "dev", "proc", "etc", "usr", "tmp", "opt/uwsgi", "var/www", "mnt", "run"] {
            fs::create_dir_all(tree.join(dir)).unwrap();
        }
        run("chmod", &["1777", "/ns/precise/tmp"]);
        for dir in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{dir}"), tree.join(dir)).unwrap();
        }
        for dir in ["etc", "usr"] {
            run("mount", &["--bind", &format!("/{dir}"), &format!("/ns/precise/{dir}")]);
        }
        let plugins = "/ns/precise/opt/uwsgi/plugins";
        std::os::unix::fs::symlink("/usr/lib/uwsgi/plugins", plugins).unwrap();
        fs::write(tree.join("var/www/myapp.pl"), APP).unwrap();
        fs::create_dir_all("/ns/cow/user001").unwrap();
        fs::create_dir_all(VASSALS).unwrap();
    }

    /// The same with copies of the few programs that are needed. A tree below a daemon's `chroot=` must be
    /// one mount: when the old root is detached, the kernel takes apart what is mounted in it.
    pub fn copied_tree(&self) {
        self.namespace_tree();
        for dir in ["etc", "usr"] {
            unmount(&format!("/ns/precise/{dir}"));
        }
        run("bash", &["-c", COPY]);
    }

    /// The tree, and the vassal's file.
    pub fn cow_tutorial(&self) {
        self.copied_tree();
        fs::write(vassal_path("cow001"), VASSAL_INI).unwrap();
    }

    /// Runs a vassal to its end, returns its status and what it and its app wrote. The mounts here stay as
    /// they are.
    pub fn outcome(&self, lines: &str) -> (i32, String) {
        let mounts = mounts();
        let mut vassal: Daemon = self.vassal_init("vassal", lines);
        let status = vassal.wait();
        let log = vassal.log();
        assert_eq!(self::mounts(), mounts, "the mounts outside changed: {lines}");
        (status, log)
    }

    /// A vassal that succeeds: what its app and its hooks wrote, without the log of PID 1.
    pub fn said(&self, lines: &str) -> Vec<String> {
        let (status, log) = self.outcome(lines);
        assert_eq!(status, 0, "{lines}\n{log}");
        words(&log)
    }

    /// A vassal whose start fails: the one line that says so has all the parts, and its app never ran.
    pub fn fails(&self, lines: &str, parts: &[&str]) {
        let (status, log) = self.outcome(&format!("{lines}\ncommand = echo the app ran"));
        assert_eq!(status, 71, "{lines}\n{log}");
        let told: Vec<_> = log.lines().filter(|line| line.contains("setup failed in ")).collect();
        assert_eq!(told.len(), 1, "{lines}\n{log}");
        for part in parts {
            assert!(told[0].contains(part), "'{part}' is not in: {}", told[0]);
        }
        assert!(!log.contains("the app ran"), "{log}");
    }

    /// A vassal whose file is wrong: nothing is begun.
    pub fn is_invalid(&self, lines: &str, part: &str) {
        let (status, log) = self.outcome(&format!("exec-asap = echo begun\n{lines}\ncommand = echo begun"));
        assert_eq!(status, 78, "{lines}\n{log}");
        assert!(log.contains(part), "'{part}' is not in: {log}");
        assert!(!log.lines().any(|line| line == "begun"), "{log}");
    }
}

/// The mount table of this namespace, every byte.
pub fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// The paths where something is mounted, as a process sees them, in order.
pub fn mounted_at(pid: i32) -> Vec<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    table.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect()
}

/// What a tool that may fail came to.
pub fn attempt(program: &str, arguments: &[&str]) -> Output {
    std::process::Command::new(program).args(arguments).output().expect(program)
}

/// The lines of a log but those of vassal-init itself, and but the warning that an app runs as root.
pub fn words(log: &str) -> Vec<String> {
    let mut lines = log.lines();
    let mut words = Vec::new();
    while let Some(line) = lines.next() {
        if line.ends_with(": warning: the app runs as root, as there is no 'uid'") {
            // The place, and the hint.
            lines.nth(2);
        } else if !line.starts_with("vassal-init") {
            words.push(line.to_owned());
        }
    }
    words
}
