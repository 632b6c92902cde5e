//! What can lie in a vassal directory, and what can happen to one: nothing of it disturbs the vassals that
//! are in order.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::common::cow::attempt;
use crate::common::process::Handle;
use crate::common::sandbox::VASSALS;
use crate::common::{process, run, sandboxed, until};
use rustix::process::Signal;

const STEADY: &str = "command = sleep 1000";

#[test]
fn strange_names_are_names() {
    sandboxed(|sandbox| {
        let longest = format!("{}.ini", "n".repeat(251));
        let names: [&[u8]; 6] =
            [b"a b.ini", b"a\nb.ini", b"\xff\xfe.ini", b"%n $(HOME) 'x'.ini", longest.as_bytes(), b"-x.ini"];
        fs::create_dir_all(VASSALS).unwrap();
        for name in names {
            fs::write(Path::new(VASSALS).join(OsStr::from_bytes(name)), format!("[uwsgi]\n{STEADY}\n"))
                .unwrap();
        }
        let emperor = sandbox.emperor(&[]);
        until("all run", || process::named("sleep").len() == names.len());
        emperor.wait_running(1, "a b");
        emperor.wait_running(1, &"n".repeat(251));
        emperor.wait_running(1, "-x");
        emperor.wait_running(1, r"\xff\xfe");
        // A name cannot write lines of its own into the log.
        let log = emperor.log();
        assert!(
            log.lines().all(|line| line.starts_with("emperor: ") || line.starts_with("vassal-init[")),
            "{log}"
        );
        for name in names {
            fs::remove_file(Path::new(VASSALS).join(OsStr::from_bytes(name))).unwrap();
        }
        until("all are gone", || process::named("sleep").is_empty());
        emperor.stop();
    });
}

#[test]
fn what_is_no_file_or_too_large_is_refused_and_waited_for_by_nobody() {
    sandboxed(|sandbox| {
        if sandbox.needs_root("device nodes") {
            return;
        }
        fs::create_dir_all(VASSALS).unwrap();
        let at = |name: &str| format!("{VASSALS}/{name}.ini");
        run("mkfifo", &[&at("fifo")]);
        run("mknod", &[&at("device"), "c", "1", "5"]);
        fs::create_dir(at("directory")).unwrap();
        symlink("loop-b.ini", at("loop-a")).unwrap();
        symlink("loop-a.ini", at("loop-b")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        fs::write(at("empty"), "").unwrap();
        sandbox.vassal("steady", STEADY);
        let emperor = sandbox.emperor(&["--emperor-throttle", "100000"]);
        emperor.wait_running(1, "steady");
        // In kB.
        let peak_memory = || -> u64 {
            let memory = fs::read_to_string(format!("/proc/{}/status", emperor.pid())).unwrap();
            let peak = memory.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            peak.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let peak_before = peak_memory();
        // 100 MB, without the disk.
        File::create(at("huge")).unwrap().set_len(100 << 20).unwrap();
        let text = [&b"[uwsgi]\n"[..], &b"# filled\n".repeat(11_000_000)].concat();
        fs::write(at("full"), text).unwrap();
        for (name, why) in [
            ("fifo", "a fifo, not a file"),
            ("device", "a device, not a file"),
            ("zero", "a device, not a file"),
            ("directory", "a directory, not a file"),
            ("dangling", "a symbolic link to nothing"),
            ("loop-a", "symbolic links in a circle"),
            ("loop-b", "symbolic links in a circle"),
        ] {
            emperor.wait_for(&format!("emperor: {name}: {} ignored: {why}", at(name)));
        }
        let yaml = at("other").replace(".ini", ".yml");
        fs::write(&yaml, "uwsgi:\n  socket: :1\n").unwrap();
        emperor.wait_for(&format!("emperor: other: {yaml} ignored: only ini files are read: write it as "));
        let hidden = at("other").replace("other", ".other");
        fs::write(&hidden, "[uwsgi]\ncommand = sleep 1000\n").unwrap();
        emperor.wait_for(&format!("{hidden} ignored: hidden files are not read: name it without the dot"));
        for name in ["huge", "full"] {
            emperor.wait_for(&format!(
                "emperor: {name}: cannot start: read {}: it is larger than 1 MiB; ",
                at(name)
            ));
        }
        emperor.wait_for("emperor: empty: invalid configuration: ");
        let grown = peak_memory() - peak_before;
        assert!(grown < 8 << 10, "the emperor has taken {grown} kB for files it refuses");
        // What was put right is run.
        fs::remove_file(at("fifo")).unwrap();
        sandbox.vassal("fifo", STEADY);
        emperor.wait_running(1, "fifo");
        assert_eq!(emperor.lines("emperor: steady: started (pid ").len(), 1);
        emperor.stop();
    });
}

#[test]
fn a_directory_that_goes_and_comes_back_takes_no_vassal_with_it() {
    sandboxed(|sandbox| {
        sandbox.vassal("a", STEADY);
        sandbox.vassal("b", STEADY);
        let emperor = sandbox.emperor(&["--emperor-freq", "1"]);
        let pid = emperor.wait_running(1, "a");
        emperor.wait_running(1, "b");
        let away = "/etc/uwsgi/away";
        fs::rename(VASSALS, away).unwrap();
        emperor.wait_for("keeping what runs, next look in 1.0 s");
        fs::remove_file(format!("{away}/b.ini")).unwrap();
        fs::rename(away, VASSALS).unwrap();
        emperor.wait_for(&format!("{VASSALS} can be read again"));
        emperor.wait_for("emperor: b: file removed: stopping");
        // Mounted over, it is empty, but nobody has deleted anything.
        run("mount", &["-t", "tmpfs", "over", VASSALS]);
        emperor.wait_for("another filesystem without vassals' files is there now: ");
        // While the emperor looks into it, it is busy.
        until("it is unmounted", || attempt("umount", &[VASSALS]).status.success());
        emperor.wait_for_nth(2, &format!("{VASSALS} can be read again"));
        sandbox.vassal("c", STEADY);
        emperor.wait_running(1, "c");
        assert_eq!((emperor.pid_of("a"), emperor.lines("emperor: a: ").len()), (pid, 2));
        // With a file in it, it is another directory of vassals.
        run("mount", &["-t", "tmpfs", "over", VASSALS]);
        sandbox.vassal("c", STEADY);
        emperor.wait_for("emperor: a: file removed: stopping");
        emperor.wait_for("emperor: a: stopped; ");
        until("it is unmounted", || attempt("umount", &[VASSALS]).status.success());
        emperor.wait_running(2, "a");
        emperor.stop();
    });
}

#[test]
fn editors_write_in_many_ways_and_each_is_one_change() {
    sandboxed(|sandbox| {
        let path = sandbox.vassal("a", STEADY);
        let path = path.to_str().unwrap();
        let emperor = sandbox.emperor(&["--emperor-freq", "1000"]);
        emperor.wait_running(1, "a");
        let ways = [
            // vim: keeps the old file as a backup under another name, and writes a new one at once.
            "perl -e '($f) = @ARGV; rename $f, qq($f~); open my $new, q(>), $f; \
             print $new qq([uwsgi]\\ncommand = sleep 1000\\n); close $new; unlink qq($f~)' $F",
            // Rename into place.
            "cp $F $F.tmp; sync $F.tmp; mv $F.tmp $F",
            // In place.
            "printf '# more\\n' >> $F",
            // sed -i.
            "sed -i s/1000/1001/ $F",
            // A hard link put over it.
            "cp $F $F.new; ln -f $F.new $F; rm $F.new",
        ];
        for (index, way) in ways.iter().enumerate() {
            run("sh", &["-c", &format!("F={path}; {way}")]);
            emperor.wait_for_nth(index + 1, "emperor: a: reloaded after ");
        }
        assert_eq!(emperor.lines("emperor: a: started (pid ").len(), 1, "the vassal was never thought gone");
        emperor.stop();
    });
}

#[test]
fn who_writes_to_a_file_that_is_gone_keeps_no_vassal() {
    sandboxed(|sandbox| {
        let path = sandbox.vassal("a", STEADY);
        let emperor = sandbox.emperor(&[]);
        let init = Handle::of(emperor.wait_running(1, "a"));
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        until("the vassal is stopped", || {
            file.write_all(b"#").unwrap();
            init.is_gone()
        });
        emperor.stop();
    });
}

#[test]
fn a_vassal_whose_file_is_gone_is_not_reloaded_while_it_stops() {
    sandboxed(|sandbox| {
        let slow = "command = sh -c 'trap \"until [ -e /run/scratch/go ]; do sleep 0.01; done; exit\" TERM; \
                    echo up; while :; do sleep 0.01; done'";
        let path = sandbox.vassal("a", slow);
        let emperor = sandbox.emperor(&[]);
        emperor.wait_for("up");
        emperor.wait_running(1, "a");
        fs::remove_file(&path).unwrap();
        emperor.wait_for("emperor: a: file removed: stopping");
        emperor.signal(Signal::HUP);
        emperor.wait_for("reloading 1 vassal");
        for word in ["reload", "start"] {
            let output = sandbox.program("emperor").args([word, "a"]).output().unwrap();
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(
                (output.status.code(), &*error),
                (Some(1), "emperor: a: its file is gone\n"),
                "{word}"
            );
        }
        sandbox.file("go", "");
        emperor.wait_for("emperor: a: stopped; ");
        assert_eq!(emperor.lines("not respawned").len(), 1, "{}", emperor.log());
        emperor.stop();
    });
}

#[test]
fn what_a_link_in_a_circle_or_through_a_file_was_before_is_gone() {
    sandboxed(|sandbox| {
        let file = sandbox.vassal("file", STEADY);
        for (name, leads) in [("circle", "circle.ini"), ("through", "file.ini/x"), ("nowhere", "no/such")] {
            let path = sandbox.vassal(name, STEADY);
            let draft = path.with_extension("draft");
            symlink(leads, &draft).unwrap();
            let emperor = sandbox.emperor(&[]);
            emperor.wait_running(1, name);
            fs::rename(&draft, &path).unwrap();
            emperor.wait_for(&format!("emperor: {name}: stopped; "));
            emperor.wait_for(&format!("{}.ini ignored: ", path.with_extension("").display()));
            emperor.stop();
            fs::remove_file(&path).unwrap();
        }
        assert!(file.exists());
    });
}
