//! What root does by a path is not led to another place by whoever owns a directory on the way.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::process::Command;

use crate::actions::{called, led};
use crate::common::cow::words;
use crate::common::{Sandbox, built, run, sandboxed, unmount, until};
use vassal::config::keys::actions::{functions, names};

/// The tenant of all tests.
const TENANT: &str = "user001";

fn tenant() -> u32 {
    run("id", &["-u", TENANT]).trim().parse().unwrap()
}

/// A directory of the tenant's, and one of the host's with files that only root may change.
fn home(_: &Sandbox) -> u32 {
    let tenant = tenant();
    for directory in ["/run/home/u/d", "/run/host/dir/empty"] {
        fs::create_dir_all(directory).unwrap();
    }
    for file in ["/run/host/x", "/run/host/dir/x", "/run/home/u/d/x"] {
        fs::write(file, "as it was\n").unwrap();
    }
    for path in ["/run/home/u", "/run/home/u/d", "/run/home/u/d/x"] {
        chown(path, Some(tenant), Some(tenant)).unwrap();
    }
    tenant
}

fn link(to: &str, at: &str, owner: u32) {
    symlink(to, at).unwrap();
    lchown(at, Some(owner), Some(owner)).unwrap();
}

/// All that can be seen of the host's files.
fn host() -> (String, Vec<u8>, Vec<u8>) {
    let listed = run("find", &["/run/host", "-printf", "%p %m %U %G %s %n\n"]);
    (listed, fs::read("/run/host/x").unwrap(), fs::read("/run/host/dir/x").unwrap())
}

fn actions(file: &str, dir: &str, new: &str) -> Vec<String> {
    let actions = names().into_iter().flat_map(|name| led(name, file, dir, new));
    actions.chain(functions().into_iter().filter_map(|name| called(name, file, dir, new))).collect()
}

#[test]
fn without_a_change_of_root_no_action_follows_a_link_of_the_tenants() {
    sandboxed(|sandbox| {
        let tenant = home(sandbox);
        link("/run/host/x", "/run/home/u/file", tenant);
        link("/run/host/dir", "/run/home/u/dir", tenant);
        // Root's own, but the tenant can have put it there.
        link("/run/host/dir", "/run/home/u/roots", 0);
        let before = host();
        for [file, dir, new] in [
            ["/run/home/u/file", "/run/home/u/dir", "/run/home/u/dir/new"],
            ["/run/home/u/dir/x", "/run/home/u/dir/empty", "/run/home/u/dir/new"],
            ["/run/home/u/roots/x", "/run/home/u/roots/empty", "/run/home/u/roots/new"],
        ] {
            for action in actions(file, dir, new) {
                // The entry is the tenant's own; so is the mountpoint.
                if action.contains("unlink") && file.ends_with("file") || action == format!("umount:{dir}") {
                    continue;
                }
                let lines = format!("hook-pre-jail = {action}");
                let (status, log) = sandbox.outcome(&format!("{lines}\ncommand = true"));
                assert!(status == 71 && log.contains("a symbolic link"), "{lines}\n{log}");
                assert_eq!(host(), before, "{lines}");
            }
        }
        let source = "mount-pre-jail = none /run/home/u/dir /mnt bind";
        sandbox.fails(source, &["bind /run/home/u/dir: /run/home/u/dir is a symbolic link of user"]);
        let says = format!(
            "chown /run/home/u/dir/x: /run/home/u/dir is a symbolic link of user {tenant}, where user \
             {tenant} can change the way: write what it leads to instead"
        );
        sandbox.fails("hook-as-root = chown:/run/home/u/dir/x user001", &[&says]);
        for key in ["chroot = /run/home/u/dir", "pivot_root = /run/home/u/dir /run/home/u/dir"] {
            sandbox.fails(key, &["jail: ", "/run/home/u/dir is a symbolic link of user"]);
        }
    });
}

#[test]
fn plain_directories_of_a_tenants_and_links_of_roots_are_walked() {
    sandboxed(|sandbox| {
        let tenant = home(sandbox);
        symlink("/run/home", "/run/homes").unwrap();
        let lines = "hook-as-root = write:/run/homes/u/d/x hello\nhook-as-root = chown:/run/homes/u/d root\n\
                     hook-as-root = create:/run/homes/u/new\nhook-as-root = chmod:/run/homes/u/new 640\n\
                     hook-as-root = mkdir:/run/homes/u/made\nhook-as-root = chown:/run/homes/u/made user001\n\
                     hook-as-root = mount:tmpfs none /run/homes/u/made\n\
                     hook-as-root = chown:/run/homes/u/made user001\n\
                     command = ls -ldn /run/home/u/made";
        let said = sandbox.said(lines).concat();
        assert!(said.contains(&format!(" {tenant} ")), "the new mount is still root's: {said}");
        assert_eq!(fs::read_to_string("/run/home/u/d/x").unwrap(), "hello");
        let there = |path: &str| fs::metadata(path).unwrap();
        assert_eq!((there("/run/home/u/d").uid(), there("/run/home/u/made").uid()), (0, tenant));
        assert_eq!(there("/run/home/u/new").permissions().mode() & 0o7777, 0o640);
    });
}

#[test]
fn a_name_that_a_tenant_gave_to_a_file_of_the_hosts_changes_nothing_of_it() {
    sandboxed(|sandbox| {
        let tenant = home(sandbox);
        fs::hard_link("/run/host/x", "/run/home/u/hard").unwrap();
        fs::write("/run/home/u/bound", "").unwrap();
        chown("/run/home/u/bound", Some(tenant), None).unwrap();
        // As a file that had a second name a moment ago.
        fs::write("/run/home/u/lent", "").unwrap();
        chown("/run/home/u/lent", Some(0), Some(tenant)).unwrap();
        fs::set_permissions("/run/home/u/lent", fs::Permissions::from_mode(0o660)).unwrap();
        let before = host();
        let lines = "hook-pre-jail = mount:none /run/host/dir/x /run/home/u/bound bind\n";
        let gone = "it is of user 0, and could have had another name";
        for (file, says) in [("hard", "it has 2 names"), ("bound", "it is a mount"), ("lent", gone)] {
            for action in [
                "chown:@ user001",
                "chmod:@ 666",
                "sticky:@",
                "write:@ x",
                "append:@ x",
                "create:@",
                "writefifo:@ x",
            ] {
                let action = action.replace('@', &format!("/run/home/u/{file}"));
                let says = format!("{says}, in a directory that user {tenant} can change");
                sandbox.fails(&format!("{lines}hook-pre-jail = {action}"), &["pre-jail #2: ", &says]);
                assert_eq!(host(), before, "{action}");
            }
        }
    });
}

/// A tenant who exchanges a directory and a link for as long as this lives.
fn exchange(sandbox: &Sandbox, to: &str, tenant: u32) -> crate::common::Daemon {
    link(to, "/run/home/u/l", tenant);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", TENANT, "--regid", TENANT, "--clear-groups"]);
    command.arg(built("load")).args(["exchange", "/run/home/u"]);
    let exchanging = sandbox.start("exchange", command);
    let is_link = || fs::symlink_metadata("/run/home/u/d").unwrap().file_type().is_symlink();
    until("it is a link", is_link);
    until("it is a directory", || !is_link());
    exchanging
}

#[test]
fn no_action_loses_a_race_against_a_tenant_who_exchanges_names() {
    sandboxed(|sandbox| {
        let tenant = home(sandbox);
        let before = host();
        let exchanging = exchange(sandbox, "/run/host/dir", tenant);
        let (mut done, mut refused) = (0, 0);
        for action in [
            "chown:/run/home/u/d/x user001",
            "chmod:/run/home/u/d/x 666",
            "write:/run/home/u/d/x owned",
            "append:/run/home/u/d/x owned",
            "create:/run/home/u/d/new",
            "mkdir:/run/home/u/d/dir",
            "unlink:/run/home/u/d/new",
            "rmdir:/run/home/u/d/empty",
        ] {
            let lines = format!("hook-pre-jail = {action}\ncommand = true");
            // When chmod could be won, that took 51 starts.
            let starts = if action.starts_with("chmod") { 80 } else { 30 };
            for _ in 0..starts {
                match sandbox.outcome(&lines) {
                    (0, _) => done += 1,
                    (71, log) if log.contains("a symbolic link") => refused += 1,
                    // Nothing to remove.
                    (71, log) if log.contains("ENOENT") => {}
                    (status, log) => panic!("{action}: {status}\n{log}"),
                }
                assert_eq!(host(), before, "{action}");
            }
        }
        drop(exchanging);
        assert!(done > 20 && refused > 20, "{done} done, {refused} refused: there was no race");
    });
}

#[test]
fn nothing_is_mounted_or_entered_where_a_tenant_exchanges_names() {
    sandboxed(|sandbox| {
        let tenant = home(sandbox);
        fs::write("/run/home/u/d/secret", "not\n").unwrap();
        fs::write("/run/host/dir/secret", "host\n").unwrap();
        let exchanging = exchange(sandbox, "/run/host/dir", tenant);
        for (lines, says) in [
            ("mount-pre-jail = none /run/home/u/d /mnt bind\ncommand = cat /mnt/secret", "not"),
            ("hook-pre-jail = chdir:/run/home/u/d\nexec-pre-jail = cat secret\ncommand = true", "not"),
            ("mount-pre-jail = tmpfs none /run/home/u/d\ncommand = cat /run/host/dir/secret", "host"),
        ] {
            for _ in 0..40 {
                let (status, log) = sandbox.outcome(lines);
                assert!(
                    status == 71 && log.contains("a symbolic link") || words(&log) == [says],
                    "{lines}\n{log}"
                );
            }
        }
        drop(exchanging);
    });
}

#[test]
fn a_tree_leads_chdir_and_chroot_out_of_the_jail_by_no_link() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir_all("/ns/precise/x").unwrap();
        fs::create_dir("/run/hostdir").unwrap();
        link("/run/hostdir", "/ns/precise/x/l", tenant());
        link("/.old_root/run/hostdir", "/ns/precise/x/old", tenant());
        let jail = "hook-pre-jail = mount:none /ns/precise /ufs rbind\npivot_root = /ufs /ufs/.old_root";
        for (phase, path) in [("pre-jail", "/ufs/x/l"), ("as-root", "/x/old")] {
            for action in ["chdir", "chroot"] {
                let lines = format!("{jail}\nhook-{phase} = {action}:{path}");
                sandbox.fails(
                    &lines,
                    &["a symbolic link on the way: refused", "write what it leads to instead"],
                );
            }
        }
        // Once the old root is gone links stay inside. The tenant's are not followed all the same.
        let gone = format!("{jail}\nhook-as-root = umount:/.old_root rec,detach");
        let lines = format!("{gone}\nhook-as-root = write:/x/l/y owned");
        sandbox.fails(&lines, &["/x/l is a symbolic link of user"]);
    });
}

#[test]
fn no_socket_is_bound_and_no_cgroup_made_where_a_link_of_the_tenants_leads() {
    sandboxed(|sandbox| {
        let tenant = home(sandbox);
        link("/run/host/dir", "/run/home/u/to", tenant);
        let before = host();
        for (lines, says) in [
            (
                "listen = /run/home/u/to/s\nuid = user001\nchown-socket = user001",
                "listen on /run/home/u/to/s: ",
            ),
            // Without a user the app is root, and so is whoever binds its socket.
            ("listen = /run/home/u/to/s", "listen on /run/home/u/to/s: "),
            ("cgroup = /run/home/u/to/new", "create cgroup /run/home/u/to/new: "),
        ] {
            let says = format!("{says}/run/home/u/to is a symbolic link of user {tenant}");
            sandbox.fails(lines, &[&says]);
            assert_eq!(host(), before, "{lines}");
        }
        let exchanging = exchange(sandbox, "/run/host/dir", tenant);
        let lines = "listen = /run/home/u/d/s\nuid = user001\nchown-socket = user001\ncommand = true";
        let mut bound = 0;
        for _ in 0..60 {
            let (status, log) = sandbox.outcome(lines);
            assert!(status == 0 || status == 71 && log.contains("a symbolic link"), "{log}");
            bound += u32::from(status == 0);
            assert_eq!(host(), before);
        }
        drop(exchanging);
        assert!(bound > 5, "there was no race");
        // The user's own rights decide where the user binds.
        let lines = "listen = /run/home/u/to/s\nuid = user001";
        sandbox.fails(lines, &["listen on /run/home/u/to/s: Permission denied (EACCES)"]);
    });
}

#[test]
fn a_socket_is_given_to_its_user_only_if_it_is_known_to_be_ours() {
    sandboxed(|sandbox| {
        let tenant = home(sandbox);
        fs::create_dir("/run/app").unwrap();
        let start = |path: &str, wrapper: &[&str]| {
            let lines = format!("uid = user001\nchown-socket = user001\nlisten = {path}\ncommand = true");
            let mut command = sandbox.wrapped(wrapper, "vassal-init");
            command.args(["--unshare", "fs,pid"]).arg(sandbox.ini("vassal", &lines));
            let mut vassal = sandbox.start("vassal", command);
            (vassal.wait(), vassal.log())
        };
        // Without that capability the file can be found by its name only.
        let without = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
        for (path, wrapper, status) in
            [("/run/home/u/s", &["env"][..], 0), ("/run/app/s", &without, 0), ("/run/home/u/t", &without, 71)]
        {
            let (ended, log) = start(path, wrapper);
            assert_eq!(ended, status, "{path}: {log}");
            let expected = if status == 0 { tenant } else { 0 };
            assert_eq!(fs::symlink_metadata(path).unwrap().uid(), expected, "{path}");
            let says =
                "chown /run/home/u/t: in a directory that others can change, 'chown-socket' takes CAP_NET";
            assert!(status == 0 || log.contains(says), "{log}");
        }
    });
}

#[test]
fn a_socket_in_a_directory_of_roots_keeps_its_path_as_its_name() {
    sandboxed(|sandbox| {
        fs::create_dir("/run/app").unwrap();
        symlink("/run", "/run/var").unwrap();
        let name = "import socket; print(socket.socket(fileno=3).getsockname())";
        let lines =
            "uid = user001\nchown-socket = user001\nlisten = /run/var/app/s\ncommand = python3 -c \"@\"";
        assert_eq!(sandbox.said(&lines.replace('@', name)), ["/run/var/app/s"]);
    });
}

#[test]
fn the_layers_of_an_overlay_are_no_directories_that_a_tenant_leads_to() {
    sandboxed(|sandbox| {
        let tenant = home(sandbox);
        for directory in ["up", "work", "place"] {
            fs::create_dir(format!("/run/home/u/{directory}")).unwrap();
        }
        link("/run/host/dir", "/run/home/u/to", tenant);
        let overlay = |lower: &str, upper: &str| {
            format!(
                "mount-asap = overlay o /run/home/u/place defaults \
                 lowerdir={lower}:/run/host/dir/empty,upperdir={upper},workdir=/run/home/u/work"
            )
        };
        for (lower, upper) in [("/run/home/u/to", "/run/home/u/up"), ("/run/home/u/d", "/run/home/u/to")] {
            let says = format!("mount /run/home/u/to: /run/home/u/to is a symbolic link of user {tenant}");
            sandbox.fails(&overlay(lower, upper), &[&says]);
        }
        // What is not there may be a link when the kernel looks. One that is relative begins elsewhere.
        link("/run/host/dir", "/run/home/u/place/rel", tenant);
        for (lower, upper) in [("/run/home/u/none", "/run/home/u/up"), ("rel", "/run/home/u/up")] {
            let says = format!("mount: open /{}: No such file", lower.trim_start_matches('/'));
            sandbox.fails(&overlay(lower, upper), &[&says]);
        }
        fs::remove_file("/run/home/u/place/rel").unwrap();
        sandbox.fails("mount-asap = tmpfs /run/home/u/none /mnt", &["mount: open /run/home/u/none: No"]);
        assert_eq!(sandbox.said("mount-asap = tmpfs /none /mnt\ncommand = echo a name"), ["a name"]);
        let lines = overlay("/run/home/u/d", "/run/home/u/up");
        let said = sandbox
            .said(&format!("{lines}\ncommand = sh -c 'cat /run/home/u/place/x; > /run/home/u/place/new'"));
        assert_eq!(said, ["as it was"]);
        assert!(fs::exists("/run/home/u/up/new").unwrap());
        // Separators in a name are escaped; what the kernel says names the path, not what stands for it.
        link("/run/host/dir", "/run/home/u/a:b,c", tenant);
        let says = format!("mount /run/home/u/a:b,c: /run/home/u/a:b,c is a symbolic link of user {tenant}");
        sandbox.fails(&overlay(r"/run/home/u/a\:b\,c", "/run/home/u/up"), &[&says]);
        fs::create_dir("/run/home/u/d:e,f").unwrap();
        fs::write("/run/home/u/d:e,f/y", "behind a colon\n").unwrap();
        let lines = overlay(r"/run/home/u/d\:e\,f", "/run/home/u/up");
        assert_eq!(sandbox.said(&format!("{lines}\ncommand = cat /run/home/u/place/y")), ["behind a colon"]);
        let says = "mount overlay on /run/home/u/place: overlay: /run/home/u/d/x is not a directory: Invalid";
        sandbox.fails(&overlay("/run/home/u/d/x", "/run/home/u/up"), &[says]);
    });
}

#[test]
fn a_fuse_filesystem_that_calls_everything_roots_leads_nowhere() {
    sandboxed(|sandbox| {
        home(sandbox);
        symlink("/run/host", "/run/home/u/d/to").unwrap();
        fs::create_dir("/run/fuse").unwrap();
        let options = "allow_other,force-user=root,force-group=root,perms=0755";
        run("bindfs", &["-o", options, "/run/home/u/d", "/run/fuse"]);
        let owner = |path: &str| fs::symlink_metadata(path).unwrap().uid();
        assert_eq!((owner("/run/fuse"), owner("/run/fuse/to")), (0, 0));
        let before = host();
        let says = "/run/fuse/to is a symbolic link of user 0, where a FUSE daemon can change the way";
        sandbox.fails("hook-as-root = chown:/run/fuse/to/x user001", &[says]);
        sandbox.fails("mount-as-root = tmpfs none /run/fuse/to", &[says]);
        assert_eq!(host(), before);
        unmount("/run/fuse");
    });
}

#[test]
fn the_walk_needs_no_call_that_an_older_kernel_or_filter_lacks() {
    /// fchmodat2(2)
    const FCHMODAT2: i64 = 452;
    sandboxed(|sandbox| {
        home(sandbox);
        let before = host();
        for errno in [libc::ENOSYS, libc::EPERM] {
            let run = |phase: &str, path: &str| {
                let lines = format!("uid = user001\nhook-{phase} = chmod:{path} 640\ncommand = true");
                let calls = [FCHMODAT2, libc::SYS_openat2, libc::SYS_statx];
                let mut command = sandbox.filtered(&calls, errno, "vassal-init");
                command.args(["--unshare", "fs,pid"]).arg(sandbox.ini("vassal", &lines));
                let mut vassal = sandbox.start("vassal", command);
                (vassal.wait(), vassal.log())
            };
            fs::set_permissions("/run/home/u/d/x", fs::Permissions::from_mode(0o600)).unwrap();
            for (phase, path) in [("as-root", "/run/home/u/d/x"), ("as-user", "/run/home/u/d/x")] {
                let (status, log) = run(phase, path);
                assert_eq!((status, fs::metadata(path).unwrap().mode() & 0o777), (0, 0o640), "{log}");
                fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
            }
            let _ = fs::remove_file("/run/home/u/to");
            link("/run/host/dir", "/run/home/u/to", tenant());
            let (status, log) = run("as-root", "/run/home/u/to/x");
            assert!(status == 71 && log.contains("/run/home/u/to is a symbolic link of user"), "{log}");
            assert_eq!(host(), before);
        }
    });
}

#[test]
fn a_program_of_a_tree_in_the_place_of_ours_is_not_run() {
    sandboxed(|sandbox| {
        sandbox.namespace_tree();
        fs::create_dir_all("/ns/precise/proc/self").unwrap();
        // A prober executes the program anew; that of root's mount is root.
        let program = "/ns/precise/proc/self/exe";
        fs::write(program, "#!/bin/sh\nid -u > /tmp/ran\n").unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        run("chown", &["-R", TENANT, "/ns/precise/proc"]);
        let jail = "hook-pre-jail = mount:none /ns/precise /ufs rbind\npivot_root = /ufs /ufs/.old_root";
        let lines = format!(
            "uid = user001\nmount-asap = tmpfs none /ns/precise/mnt\n{jail}\nmountpoint-check = /mnt\n\
             mountpoint-timeout = 20s\ncommand = echo the app"
        );
        assert_eq!(sandbox.said(&lines), ["the app"]);
        assert!(!fs::exists("/ns/precise/tmp/ran").unwrap(), "it ran");
    });
}
