//! `reload-on = content`: a file is reloaded when it, or what it reads, says something else, and not when it
//! is only touched.

use std::fs;
use std::os::unix::fs::{chown, symlink};

use crate::common::faulty::Faulty;
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::{Daemon, Sandbox, process, run, sandboxed, unmount, until};

const SLEEP: &str = "command = sleep 1000";
/// What all vassals are told.
const FOR_ALL: [&str; 2] = ["--vassal-set", "reload-on=content"];
const GOES_ON: &str = "file touched: it says what it said before, and the app goes on";

fn touch(path: &str) {
    run("touch", &[path]);
}

impl Sandbox {
    /// A vassal for each of these names, and what all are told.
    fn compared(&self, names: &[&str], lines: &str, options: &[&str]) -> Daemon {
        names.iter().for_each(|name| drop(self.vassal(name, &format!("{lines}\n{SLEEP}"))));
        let emperor = self.emperor(&[&FOR_ALL, options].concat());
        for name in names {
            emperor.wait_running(1, name);
        }
        emperor
    }
}

/// Touches the file of a vassal, which changes nothing: waits until that is said the nth time.
fn touched_for_nothing(emperor: &Daemon, n: usize, name: &str) {
    touch(vassal_path(name).to_str().unwrap());
    emperor.wait_for_nth(n, &format!("emperor: {name}: {GOES_ON}"));
}

#[test]
fn a_changed_key_of_a_config_map_reloads_its_vassal_only() {
    sandboxed(|sandbox| {
        // As the kubelet lays it out: all files are written anew, and one link is switched.
        let version = |name: &str, of_b: &str| {
            let directory = format!("{VASSALS}/..{name}");
            fs::create_dir_all(&directory).unwrap();
            for (file, says) in [("a", "one"), ("b", of_b), ("c", "one")] {
                let text = format!("[uwsgi]\nhook-post-app = print:{says}\n{SLEEP}\n");
                fs::write(format!("{directory}/{file}.ini"), text).unwrap();
            }
            symlink(format!("..{name}"), format!("{VASSALS}/..data_tmp")).unwrap();
            fs::rename(format!("{VASSALS}/..data_tmp"), format!("{VASSALS}/..data")).unwrap();
        };
        version("2024_1", "one");
        let names = ["a", "b", "c"];
        names.iter().for_each(|file| symlink(format!("..data/{file}.ini"), vassal_path(file)).unwrap());
        let emperor = sandbox.emperor(&FOR_ALL);
        for name in names {
            emperor.wait_running(1, name);
        }

        version("2024_2", "two");
        emperor.wait_for("emperor: b: reloaded after ");
        emperor.wait_for("vassal-init[b]: two");
        for name in ["a", "c"] {
            emperor.wait_for(&format!("emperor: {name}: {GOES_ON}"));
            assert_eq!(emperor.lines(&format!("emperor: {name}: file changed")), [""; 0]);
        }
        fs::remove_dir_all(format!("{VASSALS}/..2024_1")).unwrap();
        emperor.stop();
    });
}

#[test]
fn only_other_bytes_or_a_command_reload() {
    sandboxed(|sandbox| {
        let emperor = sandbox.compared(&["app"], "", &[]);
        touched_for_nothing(&emperor, 1, "app");
        // Another file with the same text takes its place.
        sandbox.vassal("app", &format!("\n{SLEEP}"));
        emperor.wait_for_nth(2, &format!("emperor: app: {GOES_ON}"));
        assert_eq!(emperor.lines("emperor: app: file changed"), [""; 0]);
        // A comment counts, too.
        sandbox.vassal("app", &format!("; more\n{SLEEP}"));
        emperor.wait_for_nth(1, "emperor: app: reloaded after ");
        touched_for_nothing(&emperor, 3, "app");
        for (nth, command) in [(2, &["reload", "--wait", "app"][..]), (3, &["reload", "app"])] {
            assert!(sandbox.program("emperor").args(command).status().unwrap().success());
            emperor.wait_for_nth(nth, "emperor: app: reloaded after ");
        }
        // What was refused is compared with what runs.
        sandbox.vassal("app", "strict = true\nnonsense = 1\nreload-on = content\ncommand = sleep 1");
        emperor.wait_for("emperor: app: reload refused: ");
        sandbox.vassal("app", &format!("; more\n{SLEEP}"));
        emperor.wait_for_nth(4, &format!("emperor: app: {GOES_ON}"));
        let status = sandbox.program("emperor").args(["status", "app"]).output().unwrap().stdout;
        assert!(!String::from_utf8_lossy(&status).contains("refused"));
        // A vassal's own word is the last one.
        sandbox.vassal("app", &format!("reload-on = touch\n{SLEEP}"));
        emperor.wait_for_nth(4, "emperor: app: reloaded after ");
        touch(vassal_path("app").to_str().unwrap());
        emperor.wait_for_nth(5, "emperor: app: reloaded after ");
        emperor.stop();
    });
}

#[test]
fn what_a_file_reads_counts_when_it_is_touched() {
    sandboxed(|sandbox| {
        let more = sandbox.file("more.ini", "[uwsgi]\nmore = @(/run/scratch/text)\n");
        sandbox.file("text", "one");
        let template = sandbox.file("all.ini", "[uwsgi]\nreload-on = content\n");
        sandbox.vassal("alone", SLEEP);
        sandbox.vassal(
            "both",
            &format!("include = {}\nif-exists = /run/scratch/flag\nendif =\n{SLEEP}", more.display()),
        );
        let emperor = sandbox.emperor(&["--vassals-include", template.to_str().unwrap()]);
        let names = ["alone", "both"];
        for name in names {
            emperor.wait_running(1, name);
        }
        let mut reloads = [0, 0];
        let mut goes_on = [0, 0];
        let changes: [(&dyn Fn(), [bool; 2]); 5] = [
            (&|| drop(fs::write(&more, "[uwsgi]\nmore = @(/run/scratch/text)\n; x\n")), [false, true]),
            (&|| drop(sandbox.file("text", "two")), [false, true]),
            (&|| drop(sandbox.file("flag", "")), [false, true]),
            (&|| drop(fs::write(&template, "[uwsgi]\n; x\nreload-on = content\n")), [true, true]),
            (&|| {}, [false, false]),
        ];
        for (change, are_meant) in changes {
            // By itself it is no news.
            change();
            for (index, name) in names.iter().enumerate() {
                touch(vassal_path(name).to_str().unwrap());
                let (count, what) = match are_meant[index] {
                    true => (&mut reloads[index], "reloaded after "),
                    false => (&mut goes_on[index], GOES_ON),
                };
                *count += 1;
                emperor.wait_for_nth(*count, &format!("emperor: {name}: {what}"));
            }
        }
        for (index, name) in names.iter().enumerate() {
            assert_eq!(emperor.lines(&format!("emperor: {name}: reloaded after ")).len(), reloads[index]);
        }
        emperor.stop();
    });
}

#[test]
fn what_cannot_be_compared_is_reloaded_by_each_touch() {
    sandboxed(|sandbox| {
        let emperor = sandbox.compared(&["app"], "words = @(exec://echo 1)", &[]);
        touch(vassal_path("app").to_str().unwrap());
        emperor.wait_running(2, "app");
        assert_eq!(emperor.lines(GOES_ON), [""; 0]);
        emperor.stop();
    });
}

#[test]
fn a_file_under_another_name_is_another_vassal_and_is_compared_from_then_on() {
    sandboxed(|sandbox| {
        let emperor = sandbox.compared(&["one"], "", &[]);
        fs::rename(vassal_path("one"), vassal_path("two")).unwrap();
        emperor.wait_running(1, "two");
        touched_for_nothing(&emperor, 1, "two");
        emperor.stop();
    });
}

#[test]
fn all_replicas_are_compared_and_replaced_one_by_one() {
    sandboxed(|sandbox| {
        let lines = "replicas = 2\nready-after = 10ms";
        sandbox.vassal("app", &format!("{lines}\n{SLEEP}"));
        let emperor = sandbox.emperor(&FOR_ALL);
        emperor.wait_for("emperor: app/2: running");
        touched_for_nothing(&emperor, 1, "app");
        sandbox.vassal("app", &format!("{lines}\n\n{SLEEP}"));
        emperor.wait_for_nth(2, "takes over");
        emperor.wait_for_nth(2, "not respawned");
        touched_for_nothing(&emperor, 2, "app");
        emperor.stop();
    });
}

#[test]
fn an_upgrade_knows_what_the_files_said() {
    sandboxed(|sandbox| {
        let emperor = sandbox.compared(&["app", "other"], "", &[]);
        assert!(sandbox.program("emperor").arg("upgrade").status().unwrap().success());
        touched_for_nothing(&emperor, 1, "app");
        sandbox.vassal("other", &format!("; more\n{SLEEP}"));
        emperor.wait_for("emperor: other: reloaded after ");
        emperor.stop();
    });
}

#[test]
fn a_users_file_is_compared_with_the_rights_of_the_user() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("files of two users") {
            return;
        }
        let own = |name: &str| {
            let more = sandbox.file(&format!("{name}.more"), "[uwsgi]\n");
            chown(&more, Some(4242), Some(4242)).unwrap();
            let file = sandbox.file("draft", &format!("[uwsgi]\ninclude = {}\n{SLEEP}\n", more.display()));
            chown(&file, Some(4242), Some(4242)).unwrap();
            fs::create_dir_all(VASSALS).unwrap();
            run("cp", &["-p", file.to_str().unwrap(), vassal_path(name).to_str().unwrap()]);
            more
        };
        let (open, secret) = (own("open"), own("secret"));
        let emperor = sandbox.emperor(&[&FOR_ALL[..], &["--emperor-tyrant"]].concat());
        emperor.wait_running(1, "open");
        emperor.wait_running(1, "secret");
        touched_for_nothing(&emperor, 1, "open");
        touched_for_nothing(&emperor, 1, "secret");
        fs::write(open, "[uwsgi]\n; x\n").unwrap();
        touch(vassal_path("open").to_str().unwrap());
        emperor.wait_for("emperor: open: file changed: ");
        // What the user may not read is not compared by anybody else.
        chown(secret, Some(0), Some(0)).unwrap();
        run("chmod", &["600", "/run/scratch/secret.more"]);
        touch(vassal_path("secret").to_str().unwrap());
        emperor.wait_for("emperor: secret: file changed: ");
        emperor.stop();
    });
}

/// A vassal's file of this user.
fn owned(sandbox: &Sandbox, name: &str, owner: u32, lines: &str) {
    let draft = sandbox.file("draft", &format!("[uwsgi]\n{lines}\n{SLEEP}\n"));
    chown(&draft, Some(owner), Some(owner)).unwrap();
    fs::create_dir_all(VASSALS).unwrap();
    let path = vassal_path(name);
    run("sh", &["-c", &format!("cp -p {} {1}.new; mv {1}.new {1}", draft.display(), path.display())]);
}

#[test]
fn the_same_text_of_another_owner_is_another_file() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("files of two users") {
            return;
        }
        owned(sandbox, "app", 4242, "");
        let emperor = sandbox.emperor(&[&FOR_ALL[..], &["--emperor-tyrant"]].concat());
        emperor.wait_running(1, "app");
        owned(sandbox, "app", 4242, "");
        emperor.wait_for_nth(1, &format!("emperor: app: {GOES_ON}"));
        owned(sandbox, "app", 4243, "");
        emperor.wait_running(2, "app");
        assert_eq!(process::only("sleep").uid, 4243);
        emperor.stop();
    });
}

#[test]
fn what_procfs_leads_to_is_not_compared() {
    sandboxed(|sandbox| {
        // The app of one of them has a mount namespace of its own.
        for (name, path) in
            [("magic", "/proc/1/root/run"), ("file", "/proc/1/comm"), ("link", "/run/scratch/link")]
        {
            sandbox.vassal(name, &format!("if-exists = {path}\nendif =\n{SLEEP}"));
        }
        symlink("/proc/1234567", sandbox.path("link")).unwrap();
        let emperor = sandbox.emperor(&FOR_ALL);
        for name in ["magic", "file", "link"] {
            emperor.wait_running(1, name);
            touch(vassal_path(name).to_str().unwrap());
            emperor.wait_for(&format!("emperor: {name}: file changed: "));
        }
        assert_eq!(emperor.lines(GOES_ON), [""; 0]);
        emperor.stop();
    });
}

/// Vassals that include a file of a filesystem which no longer says what is in it.
fn holding(sandbox: &Sandbox, test: impl Fn(&str, &Faulty)) {
    let (faulty, place) = (sandbox.faulty(), sandbox.path("mount").display().to_string());
    run("mkdir", &[&place]);
    run("sh", &["-c", &faulty.command(&place, "direct")]);
    test(&format!("include = {place}/file"), &faulty);
    faulty.behave("exit");
    unmount(&place);
}

#[test]
fn a_users_files_are_read_by_a_process_without_capabilities() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("a file of a user") {
            return;
        }
        holding(sandbox, |include, faulty| {
            owned(sandbox, "app", 4242, include);
            let emperor = sandbox.emperor(&[&FOR_ALL[..], &["--emperor-tyrant"]].concat());
            emperor.wait_running(1, "app");
            faulty.behave("hold-data");
            touch(vassal_path("app").to_str().unwrap());
            until("the user's file is read by the user", || {
                let reader = process::named("emperor-text").into_iter().find(|process| process.uid == 4242);
                reader.and_then(|it| fs::read_to_string(format!("/proc/{}/status", it.pid)).ok()).is_some_and(
                    |status| {
                        let none = |set| status.contains(&format!("{set}:\t0000000000000000\n"));
                        ["CapEff", "CapPrm", "CapInh", "CapAmb"].into_iter().all(none)
                    },
                )
            });
            emperor.wait_for("emperor: app: file changed: ");
            drop(emperor);
        });
    });
}

#[test]
fn no_second_process_reads_what_hangs() {
    sandboxed(|sandbox| {
        holding(sandbox, |include, faulty| {
            let emperor = sandbox.compared(&["app"], include, &[]);
            touched_for_nothing(&emperor, 1, "app");
            faulty.behave("hold-data");
            let mut nth = 0;
            let mut touched = || {
                nth += 1;
                touch(vassal_path("app").to_str().unwrap());
                emperor.wait_for_nth(nth, "emperor: app: file changed: ");
                process::named("emperor-text").len()
            };
            // Until the daemon has read what it is asked, who asks can be killed.
            until("one process hangs", || touched() == 1);
            for _ in 0..3 {
                assert_eq!(touched(), 1);
            }
            let late = emperor.wait_for("emperor: app: reload refused: reading the new file takes too long");
            let refused = "still hangs; the app goes on as it was";
            let by_itself = usize::from(late.ends_with("; reloading once more"));
            if by_itself == 1 {
                emperor.wait_for(refused);
            }
            touch(vassal_path("app").to_str().unwrap());
            emperor.wait_for_nth(by_itself + 1, refused);
            assert_eq!(process::named("emperor-text").len(), 1);
            // What was refused for that is done as soon as it can be.
            faulty.behave("");
            emperor.wait_for("emperor: app: what its file reads answers by now: ");
            emperor.wait_running(2, "app");
            drop(emperor);
        });
    });
}
