//! Warns of what two instances of a vassal cannot share: directories that a union or an overlay writes to,
//! addresses that the app binds itself, or PID 1 with `keep-sockets = false`, and the one that a check asks.
//!
//! A value counts as shared if another instance has the same one, that is, if no `%(replica)` has led to it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::diagnostic::Diagnostics;
use crate::config::keys::hooks::HookKey;
use crate::config::plan::{Action, Listen, Located, ReadyCheck, VassalPlan};
use crate::config::setting::{Setting, State};
use crate::names;
use crate::place::Place;

/// uWSGI's options for addresses that it binds, besides those that PID 1 can bind for it and its routers.
const OTHERS: &str = "snmp stat stat-server stats stats-server udp";

/// Whether two instances run at a time, at least for a while.
pub(super) fn are_there(plan: &VassalPlan) -> bool {
    plan.replication.replicas > 1 || plan.replication.is_rolling
}

/// Warns of directories that hooks have several instances write to.
pub(super) fn warn_of_directories(settings: &[Setting], plan: &VassalPlan, found: &mut Diagnostics) {
    let private = private_places(plan);
    let is_hook = |setting: &&Setting| {
        setting.state == State::Open && matches!(HookKey::of(&setting.key), HookKey::Ours(..))
    };
    for setting in settings.iter().filter(is_hook) {
        let Some(sibling) = &setting.in_sibling else { continue };
        let of_sibling: Vec<_> = written(sibling).collect();
        for path in written(setting.text()).filter(|path| of_sibling.contains(path)) {
            let place = Path::new(OsStr::from_bytes(path));
            if private.iter().any(|private| place.starts_with(private)) {
                continue;
            }
            let path = place.display();
            let message = format!("two instances would write to '{path}'");
            found.warning(&setting.value_at, message).hint(format!("write '{path}-%(replica)'"));
        }
    }
}

/// Warns of an address that the app binds in each instance; returns whether it is one.
pub(super) fn warn_of_address(setting: &Setting, reuses_ports: bool, found: &mut Diagnostics) -> bool {
    // More may follow, as the certificate of `https`.
    let address = setting.text().split(|&byte| byte == b',').next().unwrap_or_default();
    // Port 0 is another one each time, and `=0` an address that stands elsewhere.
    let is_own = address.ends_with(b":0") || address.starts_with(b"=");
    let is_port = !address.contains(&b'/') && address.contains(&b':');
    if !setting.is_shared() || is_own || reuses_ports && is_port {
        return false;
    }
    let message = format!("two instances would bind '{}'", String::from_utf8_lossy(address));
    found.warning(&setting.value_at, message).hint(match is_port {
        true => "tell them apart, as in ':%(replica + 8000)'",
        false => "tell them apart by '%(replica)'",
    });
    true
}

/// Warns of an address that PID 1 binds in each instance, because no socket is kept that they could share.
pub(super) fn warn_of_unkept(settings: &[Setting], plan: &VassalPlan, found: &mut Diagnostics) {
    let Some(off) = settings.iter().rfind(|setting| setting.key == b"keep-sockets") else { return };
    let is_shared = |listen: &&Located<Listen>| {
        let is_port = matches!(listen.value.address.place, Place::Internet(_));
        !(is_port && listen.value.reuse_port) && is_shared(listen, settings, plan)
    };
    if let Some(listen) = plan.listen.iter().find(is_shared).filter(|_| !plan.keep_sockets) {
        let message = format!("two instances would bind '{}'", listen.value.address.name);
        found.warning(&off.value_at, message).hint("they share the sockets that the emperor keeps");
    }
}

/// Warns of a check that another instance may answer, because it asks at an address that all accept from.
pub(super) fn warn_of_check(settings: &[Setting], plan: &VassalPlan, found: &mut Diagnostics) {
    let Some(Located { value: ReadyCheck::Exec(command), at, .. }) = &plan.readiness.check else { return };
    let asked = || plan.listen.iter().filter(|it| names_place(command.as_bytes(), &it.value.address.place));
    // A command may ask at one of the instance's own as well.
    if let Some(first) = asked().next().filter(|_| asked().all(|it| is_shared(it, settings, plan))) {
        let name = &first.value.address.name;
        let message = format!("another instance may answer this check: all accept from '{name}'");
        let hint = "ask at an address of the instance's own, as 'listen = /run/app/check-%(replica).sock'";
        found.warning(at, message).hint(hint);
    }
}

/// Whether another instance has the same address, which is not one in a network of its own.
fn is_shared(listen: &Located<Listen>, settings: &[Setting], plan: &VassalPlan) -> bool {
    let has_own_network = plan.jail.unshare & libc::CLONE_NEWNET as u64 != 0;
    !(has_own_network && matches!(listen.value.address.place, Place::Internet(_)))
        && settings.iter().any(|setting| setting.value_at == listen.at && setting.is_shared())
}

/// Whether the text of a command has the path of a socket in it, or its port, as in `http://localhost:80/`.
fn names_place(command: &[u8], place: &Place) -> bool {
    let name = match place {
        Place::File(path) => path.as_os_str().as_bytes().to_vec(),
        Place::Internet(address) => format!(":{}", address.port()).into_bytes(),
        Place::Abstract(_) => return false,
    };
    let is_whole =
        |rest: &[u8]| rest.first().is_none_or(|next| !next.is_ascii_alphanumeric() && !b"-_.".contains(next));
    let mut rests = (0..command.len()).filter_map(|at| command.get(at..)?.strip_prefix(name.as_slice()));
    rests.any(is_whole)
}

/// Whether it is an option of uWSGI for an address that nobody but uWSGI can bind, and that is no socket of
/// the app's.
pub(super) fn is_other_address(setting: &Setting) -> bool {
    setting.state == State::Open && names::contains(OTHERS, &setting.key)
}

/// The directories that a hook has a union or an overlay write to.
fn written(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let separators = b" \t,:;'\"";
    let pieces = text.split(move |byte| separators.contains(byte));
    pieces.filter_map(|piece| {
        let of_overlay = [&b"upperdir="[..], b"workdir="];
        if let Some(path) = of_overlay.iter().find_map(|key| piece.strip_prefix(*key)) {
            return Some(path);
        }
        // A branch, or the first one: `dirs=PATH=RW`.
        let (path, mark) = piece.split_at_checked(piece.len().checked_sub(3)?)?;
        let start = path.iter().position(|&byte| byte == b'/')?;
        mark.eq_ignore_ascii_case(b"=rw").then(|| path.get(start..)).flatten()
    })
}

/// Where the file has a filesystem in memory mounted, as seen from either root.
fn private_places(plan: &VassalPlan) -> Vec<PathBuf> {
    let in_memory = |fs_type: &OsStr| fs_type == "tmpfs" || fs_type == "ramfs";
    let mounted = plan.hooks.iter().filter_map(|hook| match &hook.action {
        Action::Mount(mount) if in_memory(&mount.fs_type) => Some(mount.target.clone()),
        Action::Exec(command) => {
            let mut words = command.as_bytes().split(u8::is_ascii_whitespace);
            let is_mount = words.next() == Some(b"mount") && words.any(|word| word == b"tmpfs");
            let last = words.next_back().filter(|_| is_mount);
            last.map(|path| PathBuf::from(OsStr::from_bytes(path)))
        }
        _ => None,
    });
    let root = plan.jail.new_root();
    let inside = |path: &PathBuf| Some(Path::new("/").join(path.strip_prefix(root?).ok()?));
    mounted.flat_map(|path| [inside(&path), Some(path)]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to() {
        for (text, expected) in [
            ("overlay overlay /r rw lowerdir=/l:/m,upperdir=/u,workdir=/w", &["/u", "/w"][..]),
            ("fuse:/app fuse-overlayfs -o lowerdir=/l,upperdir=/u,workdir=/w {}", &["/u", "/w"]),
            ("unionfs-fuse -o cow,chroot=/x /low=RO:/up=RW /ufs", &["/up"]),
            ("unionfs -o 'dirs=/up=rw:/low=ro' /ufs", &["/up"]),
            ("fuse-zip -r /a.zip /app", &[]),
            ("x =RW RW W", &[]),
        ] {
            let written: Vec<_> = written(text.as_bytes()).map(String::from_utf8_lossy).collect();
            assert_eq!(written, expected, "{text}");
        }
    }
}
