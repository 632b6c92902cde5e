//! Hooks and the keys that shape a vassal's jail: what the tutorial's second file comes to, what emperor and
//! vassal may say, and which changes need a fresh jail.

use std::ffi::OsString;
use std::time::Duration;

use vassal::config::plan::{Action, App, Id, Phase, VassalPlan};
use vassal::config::{Input, load_emperor, load_vassal};
use vassal::mount::request::{MountRequest, PivotRoot, Umount};
use vassal::world::Machine;

/// The vassal of the tutorial's chapter on copy-on-write roots, word for word.
const TUTORIAL: &str = include_str!("../data/user001.ini");

fn text(text: String) -> Input {
    Input::Text { path: "/v/user001.ini".into(), section: None, text: text.into_bytes() }
}

fn file(lines: &str) -> Input {
    text(format!("[uwsgi]\n{lines}\n"))
}

fn option(key: &str, value: &str) -> Input {
    Input::Option { key: key.into(), value: Some(value.into()) }
}

/// The plan, and the warnings that came with it.
fn load(inputs: &[Input]) -> (VassalPlan, String) {
    let loaded = load_vassal(inputs, false, &Machine).unwrap_or_else(|report| panic!("{report}"));
    (loaded.plan, loaded.warnings.to_string())
}

fn vassal(lines: &str) -> VassalPlan {
    load(&[file(lines)]).0
}

/// What is wrong with a vassal's lines, without the place.
fn wrong(lines: &str) -> String {
    let report = load_vassal(&[file(lines)], false, &Machine).map(|loaded| loaded.plan).unwrap_err();
    report.first().splitn(5, ':').last().unwrap().trim().to_owned()
}

fn ini(plan: VassalPlan) -> String {
    let App::Uwsgi { ini, .. } = plan.app else { panic!("not uwsgi") };
    String::from_utf8(ini).unwrap()
}

fn mount(fs_type: &str, source: &str, target: &str, flags: u64) -> Action {
    let (fs_type, source, target) = (fs_type.into(), source.into(), target.into());
    Action::Mount(MountRequest { fs_type, source, target, flags, data: OsString::new() })
}

#[test]
fn the_tutorials_cow_vassal_gives_its_plan() {
    let (plan, warnings) = load(&[text(TUTORIAL.to_owned())]);
    assert_eq!(warnings, "");
    let unionfs =
        "unionfs-fuse -ocow,chroot=/ns,default_permissions,allow_other /precise=RO:/cow/user001=RW /ufs";
    let umount =
        Umount { target: "/.old_root".into(), recursive: true, flags: libc::MNT_DETACH.cast_unsigned() };
    let expected = [
        (Phase::PreJail, Action::Chdir("/".into()), "callret:chdir /", "/v/user001.ini:14:17"),
        (Phase::PreJail, Action::Exec(unionfs.into()), &format!("exec:{unionfs}"), "/v/user001.ini:16:17"),
        (Phase::AsRoot, mount("proc", "none", "/proc", 0), "mount:proc none /proc", "/v/user001.ini:24:16"),
        (
            Phase::AsRoot,
            mount("none", "/.old_root/dev", "/dev", libc::MS_BIND),
            "mount:none /.old_root/dev /dev bind",
            "/v/user001.ini:26:16",
        ),
        (Phase::AsRoot, Action::Umount(umount), "umount:/.old_root rec,detach", "/v/user001.ini:28:16"),
    ];
    assert_eq!(plan.hooks.len(), expected.len());
    for (hook, (phase, action, text, at)) in plan.hooks.iter().zip(expected) {
        assert_eq!((hook.phase, &hook.action, hook.tolerant, hook.private), (phase, &action, false, false));
        assert_eq!((hook.source.value.as_str(), hook.source.at.to_string().as_str()), (text, at));
    }
    let pivot = PivotRoot { new_root: "/ufs".into(), put_old: "/ufs/.old_root".into() };
    assert_eq!(plan.jail.pivot_root.as_ref().map(|pivot| &pivot.value), Some(&pivot));
    assert_eq!(plan.run_as.uid.as_ref().map(|uid| &uid.value), Some(&Id::Name("user001".into())));
    assert_eq!(plan.run_as.gid.as_ref().map(|gid| &gid.value), Some(&Id::Name("user001".into())));
    assert_eq!(plan.mountpoints.checks.iter().map(|check| check.value.as_path()).collect::<Vec<_>>(), ["/"]);
    assert!(
        plan.privileges.no_new_privs && plan.privileges.capabilities.is_empty() && plan.jail.chroot.is_none()
    );
    assert_eq!(
        ini(plan),
        "[uwsgi]\nplugins-dir = /ns/precise/opt/uwsgi/plugins\nplugins-dir = /opt/uwsgi/plugins\n\
         plugin = psgi\n\
         psgi = /var/www/myapp.pl\nprotocol = http\n"
    );
}

#[test]
fn within_a_phase_the_families_come_in_uwsgis_order() {
    let plan = vassal(
        "command = x\ncall-asap = chdir /5\nexec-asap = 4\numount-asap = /3 lazy\n\
         mount-asap = tmpfs none /2 nosuid\n\
         hook-asap = cd:/1\nhook-as-user-atexit = exec:fusermount -u /app\nmount-accepting1 = tmpfs x /y\n\
         hook-asap = cd:/1b",
    );
    let hooks: Vec<_> = plan.hooks.iter().map(|hook| (hook.phase, &hook.action, hook.tolerant)).collect();
    let umount = Umount { target: "/3".into(), recursive: false, flags: libc::MNT_DETACH.cast_unsigned() };
    let expected = [
        (Phase::Asap, &Action::Chdir("/1".into()), false),
        (Phase::Asap, &Action::Chdir("/1b".into()), false),
        (Phase::Asap, &mount("tmpfs", "none", "/2", libc::MS_NOSUID), false),
        (Phase::Asap, &Action::Umount(umount), false),
        (Phase::Asap, &Action::Exec("4".into()), false),
        (Phase::Asap, &Action::Chdir("/5".into()), true),
        (Phase::Accepting, &mount("tmpfs", "x", "/y", 0), false),
        (Phase::AsUserAtexit, &Action::Exec("fusermount -u /app".into()), false),
    ];
    assert_eq!(hooks, expected);
}

#[test]
fn a_private_hook_keeps_its_text_to_itself() {
    let plan = vassal("command = x\nhook-as-root = !write:/run/key hunter2");
    let hook = &plan.hooks[0];
    assert_eq!((hook.private, hook.source.value.as_str()), (true, "write"));
    let Action::Write { text, .. } = &hook.action else { panic!("not write") };
    assert_eq!(text, "hunter2");
}

#[test]
fn keys_of_the_jail_reach_the_plan() {
    let plan = vassal(
        "command = x\nchroot = /c\npivot-root = /n  /n\nhostname = %n\ncap = NET_RAW\ncap = cap_kill,21\n\
         no-new-privs = false\n\
         hook-timeout = 2m\nunmount-timeout = 0\nmount-check = /m\nmountpoint-check = /n",
    );
    assert_eq!(plan.jail.chroot.unwrap().value.to_str(), Some("/c"));
    assert_eq!(
        plan.jail.pivot_root.unwrap().value,
        PivotRoot { new_root: "/n".into(), put_old: "/n".into() }
    );
    assert_eq!(plan.jail.hostname.unwrap().value, "user001");
    assert_eq!(plan.privileges.capabilities.iter().map(|cap| cap.value).collect::<Vec<_>>(), [5, 21]);
    assert!(!plan.privileges.no_new_privs);
    assert_eq!((plan.hook_timeout, plan.stop.unmount_timeout), (Duration::from_secs(120), Duration::ZERO));
    assert_eq!(plan.mountpoints.checks.len(), 2);
    let plan = vassal("command = x");
    assert!(plan.privileges.no_new_privs);
    assert_eq!((plan.hook_timeout.as_secs(), plan.stop.unmount_timeout.as_secs()), (60, 10));
}

#[test]
fn mistakes_about_the_jail_are_found_before_anything_is_done() {
    assert_eq!(wrong("command = x\npivot_root = /ufs"), "it takes two paths: NEW_ROOT PUT_OLD");
    assert_eq!(wrong("command = x\npivot_root = ufs /ufs"), "'ufs' is not an absolute path");
    assert_eq!(
        wrong("command = x\npivot_root = /ufs /ufs2/old"),
        "the old root cannot go to '/ufs2/old': that is not at or beneath the new root '/ufs'"
    );
    assert_eq!(wrong("command = x\ncap = net_rwa"), "unknown capability 'net_rwa', did you mean 'net_raw'?");
    assert_eq!(wrong("command = x\nhook-timeout = 0"), "it must be longer than 0");
    assert_eq!(wrong("command = x\nno-new-privs = perhaps"), "'perhaps' is neither true nor false");
    assert_eq!(wrong("command = x\nmount-as-root = proc none"), "the target is missing");
}

#[test]
fn accepting_is_uwsgis_where_uwsgi_has_it() {
    let lines = "hook-accepting1 = print:x\nexec-accepting = true\nhook-post-app = print:y\n";
    let plan = vassal(&format!("{lines}http-socket = :1"));
    let phases = |plan: &VassalPlan| plan.hooks.iter().map(|hook| hook.phase).collect::<Vec<_>>();
    assert_eq!(phases(&plan), [Phase::PostApp, Phase::Accepting]);
    assert_eq!(ini(plan), "[uwsgi]\nhook-accepting1 = print:x\nprotocol = http\n");
    let plan = vassal(&format!("{lines}command = x"));
    assert_eq!(phases(&plan), [Phase::PostApp, Phase::Accepting, Phase::Accepting]);
}

#[test]
fn an_emperors_command_line_counts_like_its_file() {
    let inputs = [option("emperor", "/v"), option("hook-as-vassal", "exec:x"), option("exec-as-vassal", "y")];
    let plan = load_emperor(&inputs, &Machine).unwrap_or_else(|report| panic!("{report}")).plan;
    assert_eq!(
        plan.vassals.as_vassal.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["hook-as-vassal", "exec-as-vassal"]
    );
}

#[test]
fn an_option_for_all_vassals_is_looked_at_once_and_not_by_each_of_them() {
    for text in ["who", "=x"] {
        let inputs = [option("emperor", "/v"), option("vassal-set", text)];
        let report = load_emperor(&inputs, &Machine).err().unwrap().to_string();
        assert!(report.contains(&format!("'vassal-set': '{text}' is not KEY=VALUE")), "{report}");
    }
}

#[test]
fn nobody_runs_a_users_file_as_that_user_before_it_was_looked_at() {
    let inputs =
        [option("emperor", "/v"), option("emperor-tyrant", "true"), option("emperor-magic-exec", "true")];
    let report = load_emperor(&inputs, &Machine).err().unwrap().to_string();
    assert!(report.contains("'emperor-tyrant' with 'emperor-magic-exec'"), "{report}");
}

#[test]
fn only_the_emperor_speaks_as_vassal() {
    let given = |key: &str, value: &str| Input::FromEmperor { key: key.into(), value: value.into() };
    let given = [given("exec-as-vassal", "mkdir /x/%(nope) $(HOME)"), given("hook-as-vassal", "cd:/")];
    let lines = "command = x\nnope = ; rm -rf /\nhook-asap = cd:/asap\nexec-as-vassal = evil";
    let (plan, warnings) = load(&[&given[..], &[file(lines)]].concat());
    let actions: Vec<_> = plan.hooks.iter().map(|hook| (hook.phase, &hook.action)).collect();
    let expected = [
        (Phase::AsVassal, &Action::Chdir("/".into())),
        // Nothing a vassal defines gets into the emperor's commands.
        (Phase::AsVassal, &Action::Exec("mkdir /x/%(nope) $(HOME)".into())),
        (Phase::Asap, &Action::Chdir("/asap".into())),
    ];
    assert_eq!(actions, expected);
    assert!(
        warnings.contains("5:1: warning: 'exec-as-vassal' only counts in the emperor's file"),
        "{warnings}"
    );
}

#[test]
fn hooks_of_an_emperors_file_reach_its_plan() {
    let load = |lines: &str| load_emperor(&[file(&format!("emperor = /x\n{lines}"))], &Machine);
    let lines = "name = v\nhook-as-vassal = mkdir:/%(name)\nmount-as-vassal = tmpfs none /v\n\
                 exec-as-emperor = a b\n\
                 call-as-vassal = chdir /\nhook-as-emperor = exec:c";
    let plan = load(lines).unwrap().plan;
    let expected =
        [("hook-as-vassal", "mkdir:/v"), ("mount-as-vassal", "tmpfs none /v"), ("call-as-vassal", "chdir /")];
    assert_eq!(plan.vassals.as_vassal, expected.map(|(key, value)| (key.to_owned(), OsString::from(value))));
    let commands: Vec<_> = plan.as_emperor.iter().map(|command| command.value.to_str().unwrap()).collect();
    assert_eq!(commands, ["a b", "c"]);
    let first = |lines: &str| load(lines).unwrap_err().first();
    assert!(first("umount-as-vassal = /x recc").contains("'umount-as-vassal': unknown umount flag 'recc'"));
    assert!(first("hook-as-vassal = mkdir").ends_with("'mkdir' is not action:argument"));
    let other = first("hook-as-emperor = mount:proc none /proc");
    assert!(other.ends_with("is not exec:COMMAND, the only action the emperor runs itself"), "{other}");
}

#[test]
fn what_shapes_the_jail_needs_a_fresh_one() {
    let base = "command = x\nuid = a\nmountpoint-check = /a\nhook-as-root = mkdir:/a\nexec-as-user = fuse /a";
    let plan = vassal(base);
    const KEPT: &str = "what the app keeps of the capabilities (cap, cap-drop)";
    let change = |more: &str| plan.jail_change(&vassal(more));
    assert_eq!(change(base), None);
    // Elsewhere in the file, other text around it, and what a reload can change.
    let same = "stop-timeout = 3\numask = 022\nchdir = /a\nenv = A=b\n; moved\nmount-check = /a\n\
                exec-as-user = other\n\
                hook-as-root = mkdir:/a\nuid = a\ncommand = y z\nexec-as-user-atexit = bye\n\
                no-new-privs = false";
    assert_eq!(change(same), None);
    for (line, expected) in [
        ("hook-asap = print:x", "a hook up to as-root"),
        ("exec-as-root = true", "a hook up to as-root"),
        ("unshare = uts", "unshare"),
        ("hostname = h", "hostname"),
        ("chroot = /c", "chroot"),
        ("pivot_root = /n /n/o", "pivot_root"),
        ("uid = b", "uid"),
        ("gid = b", "gid"),
        ("add-gid = b", "add-gid"),
        ("no-initgroups", "no-initgroups"),
        ("cap = kill", KEPT),
        ("mountpoint-check = /b", "mountpoint-check"),
        ("privileged-binary-patch = x", "privileged-binary-patch"),
    ] {
        assert_eq!(change(&format!("{base}\n{line}")), Some(expected), "{line}");
    }
    assert_eq!(change(&base.replace("mkdir:/a", "mkdir:/b")), Some("a hook up to as-root"));
}

/// PID 1 gives up what the app is not to have; what is only taken from the app can be given back.
#[test]
fn capabilities_need_a_fresh_jail_where_pid_1_has_given_up_others() {
    for (old, new, is_fresh) in [
        ("", "cap = kill", true),
        ("cap = kill", "", true),
        ("cap = kill,chown", "cap = CAP_CHOWN, 5", false),
        ("", "cap-drop = kill", false),
        ("cap-drop = all", "", false),
        ("cap = kill", "cap = kill\ncap-drop = kill", true),
        ("cap = kill\ncap-drop = kill", "cap = kill", true),
        ("cap = kill\ncap-drop = all", "cap = kill\ncap-drop = kill", false),
        ("cap = kill\ncap-drop = chown", "cap = kill", false),
        ("cap = kill", "cap = kill\ncap-drop = chown", false),
        ("cap = kill\ncap-drop = kill", "", false),
        ("no-new-privs = false", "", false),
        ("", "no-new-privs = false", false),
    ] {
        let plan = |more: &str| vassal(&format!("command = x\nuid = a\n{more}"));
        assert_eq!(plan(old).jail_change(&plan(new)).is_some(), is_fresh, "{old:?} to {new:?}");
    }
}
