//! The recipes: each file of docs/recipes is shown in docs/recipes.md as it is, and works.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::process::{self, Handle};
use crate::common::sandbox::{VASSALS, vassal_path};
use crate::common::tutorial::{get, wait_for_page};
use crate::common::{Daemon, ENDED, Sandbox, run, sandboxed, until};
use rustix::process::Signal;

const BINDFS: &str = include_str!("../../docs/recipes/bindfs.ini");
const CHROOT: &str = include_str!("../../docs/recipes/chroot.ini");
const JAIL: &str = include_str!("../../docs/recipes/jail.ini");
const OVERLAY: &str = include_str!("../../docs/recipes/overlay.ini");
const SQUASHFS: &str = include_str!("../../docs/recipes/squashfs.ini");

/// All there are.
const RECIPES: &[(&str, &str)] = &[
    ("bindfs.ini", BINDFS),
    ("chroot.ini", CHROOT),
    ("jail.ini", JAIL),
    ("overlay.ini", OVERLAY),
    ("squashfs.ini", SQUASHFS),
];

/// The app of the jails: says who and where it is, in a new file of its user's home each time it is started.
const APP: &str = "#!/bin/sh
cd /home/user001
(id -u; ls -A / /.old_root; echo end; ls /dev; cat /etc/resolv.conf /proc/self/mountinfo) > draft
mv draft report.$$
exec sleep 1000
";

/// What that app needs.
const PROGRAMS: &[&str] = &["/bin/sh", "/bin/cat", "/bin/id", "/bin/ls", "/bin/mv", "/bin/sleep"];

#[test]
fn the_document_shows_every_recipe_as_it_is() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(repository.join("docs/recipes.md")).unwrap();
    for (name, text) in RECIPES {
        let indent = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("    {line}\n") };
        let block: String = text.lines().map(indent).collect();
        assert!(document.contains(&block), "docs/recipes.md does not show docs/recipes/{name} as it is");
    }
    let files = fs::read_dir(repository.join("docs/recipes")).unwrap();
    let files: BTreeSet<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    let tested: BTreeSet<_> = RECIPES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, tested, "every recipe is tested, and listed here");
}

#[test]
fn a_directory_through_bindfs_is_served_and_watched() {
    sandboxed(|sandbox| {
        app_files(sandbox);
        serves_and_recovers(sandbox, BINDFS, "bindfs");
    });
}

#[test]
fn a_squashfs_image_is_served_and_watched() {
    sandboxed(|sandbox| {
        app_files(sandbox);
        run("mksquashfs", &["/var/www/app001", "/var/www/app001.squashfs", "-quiet", "-no-progress"]);
        fs::remove_dir_all("/var/www/app001").unwrap();
        serves_and_recovers(sandbox, SQUASHFS, "squashfuse");
    });
}

/// The tutorial's app, unpacked.
fn app_files(sandbox: &Sandbox) {
    sandbox.zip();
    fs::create_dir("/var/www/app001").unwrap();
    for file in ["myapp.pl", "page.html"] {
        fs::copy(sandbox.path(file), Path::new("/var/www/app001").join(file)).unwrap();
    }
}

/// The page is served; a reload keeps the mount; a killed daemon takes the instance along, and a new one
/// serves.
fn serves_and_recovers(sandbox: &Sandbox, recipe: &str, daemon: &str) {
    let emperor = emperor_of(sandbox, recipe);
    wait_for_page();
    let init = emperor.wait_running(1, "recipe");
    let mounter = process::only(daemon);
    assert_eq!(mounter.uid, user001());

    run("touch", &[vassal_path("recipe").to_str().unwrap()]);
    emperor.wait_for("emperor: recipe: reloaded after ");
    wait_for_page();
    assert_eq!(process::only(daemon).pid, mounter.pid, "the mount stays");

    let instance = Handle::of(init);
    process::signal(mounter.pid, Signal::KILL);
    instance.wait();
    emperor.wait_for("emperor: recipe: mountpoint /app lost: ");
    assert_ne!(emperor.wait_running(2, "recipe"), init);
    wait_for_page();
    emperor.stop();
    assert_eq!(get(), None);
}

#[test]
fn a_kernel_overlay_is_entered_and_written_to_in_the_users_layer_only() {
    sandboxed(|sandbox| {
        tree(sandbox);
        for layer in ["/ns/overlay/user001/upper", "/ns/overlay/user001/work"] {
            fs::create_dir_all(layer).unwrap();
        }
        fs::create_dir_all("/ufs").unwrap();
        let emperor = emperor_of(sandbox, OVERLAY);
        let layer = "/ns/overlay/user001/upper";
        let report = keeps_its_jail(&emperor, layer);
        assert!(report.contains(" / / rw,nosuid,nodev"), "{report}");
        assert!(report.contains(" - overlay overlay rw,lowerdir=/ns/precise,"), "{report}");
        assert!(reports("/ns/precise").is_empty(), "written to the shared tree");
        assert_eq!(fs::read_dir("/ufs").unwrap().count(), 0, "the overlay is seen outside");
        emperor.stop();
    });
}

#[test]
fn a_jail_has_the_devices_and_the_names_that_its_file_gives_it_and_no_other() {
    sandboxed(|sandbox| {
        tree(sandbox);
        let layer = "/ns/overlay/user001/upper";
        for directory in [layer, "/ns/overlay/user001/work", "/ufs"] {
            fs::create_dir_all(directory).unwrap();
        }
        // On the stage /etc is a copy, in which the file may be a link to what is not there.
        sandbox.file("resolv.conf", "nameserver 192.0.2.53\n");
        let file = JAIL.replace("/.old_root/etc/resolv.conf", "/.old_root/run/scratch/resolv.conf");
        let emperor = emperor_of(sandbox, &file);
        let report = keeps_its_jail(&emperor, layer);
        assert!(
            report.contains("\nend\nfull\nnull\nrandom\nshm\nurandom\nzero\nnameserver 192.0.2.53\n"),
            "{report}"
        );
        for mount in [
            " / /tmp rw,nosuid,nodev",
            " / /dev/shm rw,nosuid,nodev,noexec",
            "/resolv.conf /etc/resolv.conf ro",
        ] {
            assert!(report.contains(mount), "{mount}: {report}");
        }
        emperor.stop();
    });
}

/// What the document has for that, with the lines above it.
const OVER_IMAGE: &str = "\
exec-asap = squashfuse -o allow_other /ns/precise.squashfs /ns/precise
mount-pre-jail = none /ns/precise /ufs/mnt bind,ro
mountpoint-check = /
mountpoint-check = /mnt
";

#[test]
fn a_kernel_overlay_over_an_image_is_made_anew_when_what_serves_the_image_dies() {
    sandboxed(|sandbox| {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipes.md");
        let document = fs::read_to_string(document).unwrap();
        assert!(OVER_IMAGE.lines().all(|line| document.contains(&format!("\n    {line}\n"))));
        tree(sandbox);
        for directory in ["/ns/overlay/user001/upper", "/ns/overlay/user001/work", "/ns/precise/mnt", "/ufs"]
        {
            fs::create_dir_all(directory).unwrap();
        }
        run("mksquashfs", &["/ns/precise", "/ns/precise.squashfs", "-quiet", "-no-progress"]);
        fs::remove_dir_all("/ns/precise").unwrap();
        fs::create_dir("/ns/precise").unwrap();
        let (mounts, rest) = OVERLAY.split_once("\n; enter").unwrap();
        let emperor = emperor_of(sandbox, &format!("{mounts}{OVER_IMAGE}; enter{rest}"));
        let instance = Handle::of(emperor.wait_running(1, "recipe"));
        let sleeps = |app: &process::Process| {
            fs::read_to_string(format!("/proc/{}/wchan", app.pid))
                .is_ok_and(|place| place.contains("nanosleep"))
        };
        until("the app needs nothing any more", || process::named("sleep").iter().any(sleeps));
        process::signal(process::only("squashfuse").pid, Signal::KILL);
        instance.wait();
        let lost = emperor.wait_for("emperor: recipe: mountpoint /mnt lost: ");
        assert!(ENDED.iter().any(|why| lost.contains(why)), "{lost}");
        emperor.wait_running(2, "recipe");
        emperor.stop();
    });
}

#[test]
fn a_tree_is_entered_by_chroot() {
    sandboxed(|sandbox| {
        tree(sandbox);
        let emperor = emperor_of(sandbox, CHROOT);
        keeps_its_jail(&emperor, "/ns/precise");
        assert_eq!(fs::read_dir("/ns/precise/dev").unwrap().count(), 0, "the devices are seen outside");
        emperor.stop();
    });
}

/// The tree /ns/precise: the app, what it needs, and a home for its user.
fn tree(sandbox: &Sandbox) {
    // On the stage's root, which is in memory.
    fs::create_dir_all("/ns").unwrap();
    sandbox.mount(&["-t", "tmpfs", "tree"], "/ns");
    for directory in [".old_root", "dev", "etc", "home/user001", "proc", "srv", "tmp"] {
        fs::create_dir_all(Path::new("/ns/precise").join(directory)).unwrap();
    }
    run("chown", &["user001:user001", "/ns/precise/home/user001"]);
    fs::write("/ns/precise/etc/resolv.conf", "").unwrap();
    fs::write("/ns/precise/srv/app", APP).unwrap();
    fs::set_permissions("/ns/precise/srv/app", fs::Permissions::from_mode(0o755)).unwrap();
    // Not the static programs, but debug builds of ours need what this one does.
    let own = std::env::current_exe().unwrap();
    let libraries = run("ldd", &[PROGRAMS, &[own.to_str().unwrap()]].concat());
    let is_library = |word: &&str| word.starts_with('/') && !Path::new(word.trim_end_matches(':')).eq(&own);
    let libraries: BTreeSet<_> = libraries.split_whitespace().filter(is_library).collect();
    let needed = libraries.into_iter().map(|word| word.trim_end_matches(':')).chain(PROGRAMS.iter().copied());
    for file in needed.collect::<BTreeSet<_>>() {
        run("cp", &["--parents", "--dereference", file, "/ns/precise"]);
    }
}

/// The app runs as its user and sees no old root; a reload starts it again in the same jail. Returns what it
/// reported.
fn keeps_its_jail(emperor: &Daemon, layer: &str) -> String {
    let init = emperor.wait_running(1, "recipe");
    let user = user001();
    assert_eq!(process::only("sleep").uid, user);
    let first = reports(layer);
    run("touch", &[vassal_path("recipe").to_str().unwrap()]);
    emperor.wait_for("emperor: recipe: reloaded after ");
    until("a second report", || reports(layer).len() == 2);
    assert!(process::read(init).is_some(), "PID 1 stays");
    assert_eq!(first.len(), 1, "one report for each start");
    for report in reports(layer) {
        assert!(report.starts_with(&format!("{user}\n")), "not from user001: {report}");
        assert!(report.contains("\n/.old_root:\nend\n"), "the old root is not gone: {report}");
    }
    first.concat()
}

/// What the app has reported so far, as seen from outside.
fn reports(layer: &str) -> Vec<String> {
    let Ok(home) = fs::read_dir(Path::new(layer).join("home/user001")) else { return Vec::new() };
    let is_report = |path: &PathBuf| path.file_stem().is_some_and(|stem| stem == "report");
    let reports = home.map(|entry| entry.unwrap().path()).filter(is_report);
    reports.map(|path| fs::read_to_string(path).unwrap()).collect()
}

/// An emperor whose one vassal is this recipe.
fn emperor_of(sandbox: &Sandbox, recipe: &str) -> Daemon {
    fs::create_dir_all(VASSALS).unwrap();
    fs::write(vassal_path("recipe"), recipe).unwrap();
    sandbox.emperor(&["--emperor-throttle", "1"])
}

pub fn user001() -> u32 {
    run("id", &["-u", "user001"]).trim().parse().unwrap()
}
