//! Where the emperor finds vassals, and what it tells all of them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Daemon, Sandbox, run, sandboxed, until};

/// An emperor with exactly these lines below `[uwsgi]`.
fn emperor(sandbox: &Sandbox, lines: &str) -> Daemon {
    let mut command = sandbox.program("emperor");
    command.current_dir("/run/scratch").arg(sandbox.ini("emperor", lines));
    sandbox.start("emperor", command)
}

/// A vassal's file that prints what `says` is once expanded, and stays.
fn saying(path: &str, says: &str) {
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    fs::write(path, format!("[uwsgi]\nhook-asap = print:{says}\ncommand = sleep 1000\n")).unwrap();
}

#[test]
fn directories_patterns_and_files_side_by_side() {
    sandboxed(|sandbox| {
        saying("/run/scratch/d/one.ini", "at %d in $(PWD)");
        saying("/run/scratch/d/two.conf", "%n");
        saying("/run/scratch/t/x/v/three.ini", "%c");
        saying("/run/scratch/t/y/v/not-me.ini", "%c");
        saying("/run/scratch/single/four.ini", "%n");
        saying("/run/scratch/single/other.ini", "%n");
        let lines = "emperor = d\nemperor = glob:///run/scratch/t/*/v/t*.ini\nemperor = single/four.ini\n\
                     emperor-extra-extension = .conf\nemperor-freq = 1000";
        let emperor = emperor(sandbox, lines);
        for name in ["one", "two", "x/v/three", "four"] {
            emperor.wait_running(1, name);
        }
        emperor.wait_for("vassal-init[one]: at /run/scratch/d/ in ");
        assert_eq!(emperor.lines(": started (pid ").len(), 4);

        // No scan but those that an event asks for comes in time for this.
        saying("/run/scratch/t/z/v/t5.ini", "%c");
        run("touch", &["/run/scratch/t"]);
        let mut tries = 0;
        until("the new directory is found", || {
            // Its subdirectory was perhaps made after the scan that its own creation has led to.
            tries += 1;
            fs::create_dir(format!("/run/scratch/t/nudge{tries}")).unwrap();
            !emperor.lines("emperor: z/v/t5: running after ").is_empty()
        });
        fs::rename("/run/scratch/t/x", "/run/scratch/x-was-here").unwrap();
        emperor.wait_for("emperor: x/v/three: stopped; ");
        emperor.stop();
    });
}

#[test]
fn a_pattern_may_find_files_of_one_name_in_many_directories() {
    sandboxed(|sandbox| {
        for user in ["alice", "bob"] {
            saying(&format!("/run/scratch/home/{user}/app.ini"), "%n of $(UWSGI_VASSAL_NAME)");
        }
        let lines = "emperor = /run/scratch/home/*/*.ini\ncontrol = control\nexec-as-emperor = echo of \
            $UWSGI_VASSAL_NAME";
        let emperor = emperor(sandbox, lines);
        let order = |words: &[&str]| {
            let mut command = sandbox.program("emperor");
            let output = command.args(words).args(["--control", "/run/scratch/control"]).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        for user in ["alice", "bob"] {
            emperor.wait_running(1, &format!("{user}/app"));
            emperor.wait_for(&format!("of {user}/app"));
        }
        order(&["upgrade"]);
        order(&["stop", "alice/app"]);
        emperor.wait_for("emperor: alice/app: stopped; ");
        let table = order(&["status"]);
        for (name, state) in [("alice/app", "stopped"), ("bob/app", "running")] {
            let line = table.lines().find(|line| line.starts_with(name)).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some(state), "{table}");
        }
        fs::remove_file("/run/scratch/home/bob/app.ini").unwrap();
        emperor.wait_for("emperor: bob/app: stopped; ");
        emperor.stop();
    });
}

#[test]
fn thousands_of_directories_are_looked_at_and_not_for_each_other() {
    sandboxed(|sandbox| {
        let home = |n: usize| format!("/run/scratch/home/{n:04}");
        (0..3000).for_each(|n| fs::create_dir_all(home(n)).unwrap());
        let emperor = emperor(sandbox, "emperor = /run/scratch/home/*/*.ini\nemperor-freq = 1000");
        // What the emperor and the kernel have worked, in ticks.
        let worked = || {
            let text = fs::read_to_string(format!("/proc/{}/stat", emperor.pid())).unwrap();
            let fields: Vec<_> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
            [11, 12].map(|index| fields[index].parse::<u64>().unwrap())
        };
        let mut before = [0; 2];
        for n in 0..5 {
            // Each is found by a scan of all.
            saying(&format!("{}/app.ini", home(n)), "-");
            emperor.wait_running(1, &format!("{n:04}/app"));
            if n == 0 {
                before = worked();
            }
        }
        let [user, system] = [0, 1].map(|index| worked()[index] - before[index]);
        assert!(user < 4 * system + 10, "{user} ticks of its own beside {system} of the kernel");
        emperor.stop();
    });
}

#[test]
fn a_config_map_is_swapped_as_a_whole() {
    sandboxed(|sandbox| {
        // As the kubelet lays it out: files are links through ..data, which is a link to a directory of the
        // version.
        let version = |name: &str, says: &str, files: &[&str]| {
            files.iter().for_each(|file| saying(&format!("{VASSALS}/..{name}/{file}.ini"), says));
            symlink(format!("..{name}"), format!("{VASSALS}/..data_tmp")).unwrap();
            fs::rename(format!("{VASSALS}/..data_tmp"), format!("{VASSALS}/..data")).unwrap();
        };
        version("2024_1", "first", &["a", "b"]);
        let link =
            |file: &str| symlink(format!("..data/{file}.ini"), format!("{VASSALS}/{file}.ini")).unwrap();
        link("a");
        link("b");
        let emperor = sandbox.emperor(&["--emperor-freq", "1000"]);
        emperor.wait_running(1, "a");
        emperor.wait_running(1, "b");
        emperor.wait_for("vassal-init[a]: first");

        version("2024_2", "second", &["a", "c"]);
        fs::remove_file(format!("{VASSALS}/b.ini")).unwrap();
        link("c");
        fs::remove_dir_all(format!("{VASSALS}/..2024_1")).unwrap();
        emperor.wait_for("emperor: a: file changed: ");
        emperor.wait_for("vassal-init[a]: second");
        emperor.wait_running(1, "c");
        emperor.wait_for("emperor: b: stopped; ");
        assert_eq!(emperor.lines("symbolic link to nothing"), [""; 0], "the swap was seen half-done");
        emperor.stop();
    });
}

#[test]
fn a_link_counts_itself_with_nofollow() {
    sandboxed(|sandbox| {
        saying("/run/scratch/target", "-");
        fs::create_dir_all(VASSALS).unwrap();
        symlink("/run/scratch/target", format!("{VASSALS}/link.ini")).unwrap();
        sandbox.vassal("witness", "command = sleep 1000");
        let emperor = sandbox.emperor(&["--emperor-nofollow", "--emperor-freq", "1"]);
        emperor.wait_running(1, "link");
        emperor.wait_running(1, "witness");
        run("touch", &["/run/scratch/target"]);
        // By the time this is seen, the other would have been.
        run("touch", &[&format!("{VASSALS}/witness.ini")]);
        emperor.wait_for("emperor: witness: reloaded after ");
        assert_eq!(emperor.lines("link: file changed"), [""; 0]);
        run("touch", &["-h", &format!("{VASSALS}/link.ini")]);
        emperor.wait_for("emperor: link: file changed: reloading");
        emperor.stop();
    });
}

#[test]
fn a_link_counts_as_what_it_leads_to() {
    sandboxed(|sandbox| {
        saying("/run/scratch/target", "%n %N %e");
        fs::create_dir_all(VASSALS).unwrap();
        symlink("/run/scratch/target", format!("{VASSALS}/link.ini")).unwrap();
        // Nothing tells of the target: the regular scan finds it.
        let emperor = sandbox.emperor(&["--emperor-freq", "1"]);
        emperor.wait_running(1, "link");
        emperor.wait_for("vassal-init[link]: link link ini");
        run("touch", &["/run/scratch/target"]);
        emperor.wait_for("emperor: link: file changed: reloading");
        emperor.stop();
    });
}

#[test]
fn templates_are_read_around_the_file_in_uwsgis_order() {
    sandboxed(|sandbox| {
        let template = |name: &str| {
            let text = format!("[uwsgi]\nhook-asap = print:{name}: %n of %N, %(who), %(where)\n");
            sandbox.file(name, &text);
        };
        ["inc.ini", "incb.ini", "inh.ini", "inhb.ini"].iter().for_each(|name| template(name));
        saying("/run/scratch/v/app.ini", "own: %(who), %(where)");
        let lines = "emperor = v\nwhat = me\nvassals-inherit-before = ../inhb.ini\nvassals-include-before = \
            ../incb.ini\n\
                     vassal-set = who=%(what)\nvassals-include = ../inc.ini\nvassals-inherit = ../inh.ini";
        let mut command = sandbox.program("emperor");
        command.current_dir("/run/scratch").arg(sandbox.ini("emperor", lines));
        command.env("UWSGI_VASSAL_WHERE", "here").env("UWSGI_VASSAL_COMMAND", "false");
        let emperor = sandbox.start("emperor", command);
        emperor.wait_running(1, "app");
        let said: Vec<_> = emperor
            .lines("vassal-init[app]: in")
            .into_iter()
            .chain(emperor.lines("vassal-init[app]: own"))
            .map(|line| line.split_once("]: ").unwrap().1.to_owned())
            .collect();
        let expected = [
            "incb.ini: incb of app, me, here",
            "inc.ini: inc of app, me, here",
            "inhb.ini: inhb of app, %(who), %(where)",
            "inh.ini: inh of app, %(who), %(where)",
            "own: me, here",
        ];
        assert_eq!(said, expected);
        emperor.stop();
    });
}

#[test]
fn uwsgi_gets_an_option_of_the_environment_once() {
    sandboxed(|sandbox| {
        saying("/run/scratch/v/app.ini", "-");
        let text = "[uwsgi]\nneed-app = false\nmaster = true\nexec-asap = echo hooks see $UWSGI_SOCKET\n";
        fs::write("/run/scratch/v/app.ini", text).unwrap();
        let mut command = sandbox.program("emperor");
        command.arg(sandbox.ini("emperor", "emperor = /run/scratch/v\nemperor-use-clone = fs,pid"));
        command.env("UWSGI_VASSAL_SOCKET", "/run/scratch/app.sock").env("UWSGI_VASSAL_UID", "0");
        let emperor = sandbox.start("emperor", command);
        emperor.wait_running(1, "app");
        emperor.wait_for("hooks see /run/scratch/app.sock");
        emperor.wait_for("uwsgi socket 0 attached to UNIX address /run/scratch/app.sock");
        assert_eq!(emperor.lines("uwsgi socket 1"), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn what_an_executable_file_prints_is_the_configuration() {
    sandboxed(|sandbox| {
        let executable = |name: &str, text: &str| {
            fs::create_dir_all(VASSALS).unwrap();
            let path = Path::new(VASSALS).join("draft");
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(path, vassal_path(name)).unwrap();
        };
        let script = |word: &str| {
            let hook = format!("echo \"hook-asap = print:{word} $(basename \"$0\" .ini) pid $$\"");
            format!("#!/bin/sh\necho '[uwsgi]'\n{hook}\necho 'command = sleep 1000'\n")
        };
        sandbox.vassal("plain", "command = sleep 1000");
        executable("it's $HOME \"x\"", &script("first"));
        executable("shell", &script("also").replace("#!/bin/sh\n", ""));
        executable("bad", &(script("useless") + "exit 3\n"));
        let emperor = sandbox.emperor(&["--emperor-magic-exec", "--emperor-throttle", "300"]);
        emperor.wait_running(1, "plain");
        // It runs where the vassal will: as the second process of its namespace.
        emperor.wait_for("first it's $HOME \"x\" pid 2");
        emperor.wait_for("also shell pid 2");
        emperor.wait_running(1, "shell");
        emperor.wait_for("vassals/bad.ini: exited with status 3");
        emperor.wait_for("emperor: bad: setup failed");
        // A failure of the program may be over the next time.
        executable("bad", &script("better"));
        emperor.wait_for("better bad");
        executable("shell", &script("changed"));
        emperor.wait_for("emperor: shell: needs a fresh jail: its file is a program: restarting");
        emperor.wait_for("changed shell");
        assert_eq!(emperor.lines("useless").len(), 0);
        emperor.stop();
        // Without the option it is a text.
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("shell.ini:2:1");
        emperor.stop();
    });
}
