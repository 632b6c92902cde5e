//! Files that uWSGI opens as root before it becomes its user. Here it is that user from its first
//! instruction, so PID 1 opens or makes them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::diagnostic::Diagnostics;
use crate::config::keys::uwsgi;
use crate::config::plan::{Id, Output, Phase, VassalPlan};
use crate::config::setting::{Setting, State};
use crate::config::world::World;
use crate::names;

/// The options with such a file.
const FILES: &str = "daemonize logto pidfile spooler";
/// The options that have the files of a certificate and of its key behind an address.
const CERTIFICATES: &str = "https https-socket https2";
/// The options by which uWSGI starts itself anew, which it cannot do here.
const RELOADS: &str = "fs-reload py-auto-reload py-autoreload touch-reload";

/// Takes `logto` out of the options, and has PID 1 write that file, unless the file of the vassal says where
/// the output goes, or uWSGI is to do more with the file. All other files are noted.
pub(super) fn take_over(options: &mut Vec<&Setting>, plan: &mut VassalPlan, found: &mut Diagnostics) {
    let is_file = |setting: &&Setting| {
        let text = setting.text();
        // Others are addresses that it sends lines to.
        let is_path = !text.is_empty() && (text.starts_with(b"/") || !text.contains(&b':'));
        setting.state == State::Open && names::contains(FILES, &setting.key) && is_path
    };
    let path = |text: &[u8]| PathBuf::from(OsStr::from_bytes(text));
    let has_more = |setting: &&Setting| {
        ["log-", "logfile-", "touch-log"].iter().any(|more| setting.key.starts_with(more.as_bytes()))
    };
    let is_said = plan.output.out.as_ref().is_some_and(|out| out.at.line > 0);
    // Something must be left that makes uWSGI the app.
    let is_left = options.iter().any(|setting| !names::contains("logto strict", &setting.key));
    if !is_said
        && is_left
        && !options.iter().any(has_more)
        && let Some(setting) = options.iter().rfind(|setting| setting.key == b"logto" && is_file(setting))
    {
        plan.output.out = Some(setting.locate(Output::File(path(setting.text()))));
        options.retain(|setting| setting.key != b"logto");
    }
    for setting in options.iter().filter(|setting| uwsgi::has(&setting.key)) {
        let key = setting.key.escape_ascii();
        let of_uwsgi = &mut plan.output.of_uwsgi;
        if names::contains(RELOADS, &setting.key) {
            let message = format!("'{key}' ends uWSGI here, and a new instance takes its place");
            found.warning(&setting.at, message).hint("touch the vassal's file instead");
        } else if names::contains(CERTIFICATES, &setting.key) && setting.state == State::Open {
            // `ADDRESS,CERTIFICATE,KEY`; in `https2` with names, as `key=`.
            let parts = setting.text().split(|&byte| byte == b',').skip(1);
            let values = parts.filter_map(|part| part.rsplit(|&byte| byte == b'=').next());
            let files = values.filter(|value| value.starts_with(b"/"));
            of_uwsgi.extend(files.map(|file| setting.locate(path(file))));
        } else if is_file(setting) && setting.text().starts_with(b"/") {
            of_uwsgi.push(setting.locate(path(setting.text())));
        } else if is_file(setting) && setting.key != b"spooler" && plan.chdir.is_some() {
            let message = format!("'{key}' is in 'chdir' here, and in the directory of this file in uWSGI");
            found.warning(&setting.value_at, message).hint("write the path from the root");
        }
    }
}

/// Number and name of the user that uWSGI will be; `None` if there is no such user.
fn user(plan: &VassalPlan, world: &dyn World) -> Option<(u32, String)> {
    Some(match plan.run_as.uid.as_ref().map(|uid| &uid.value) {
        Some(Id::Name(name)) => {
            let passwd = world.read(Path::new("/etc/passwd")).unwrap_or_default();
            let uid = String::from_utf8_lossy(&passwd).lines().find_map(|line| {
                let mut fields = line.split(':');
                if fields.next()? == name { fields.nth(1)?.parse().ok() } else { None }
            })?;
            (uid, name.to_string())
        }
        Some(Id::Number(uid)) => (*uid, uid.to_string()),
        None => (0, String::new()),
    })
}

/// Warns of what root finds now, and uWSGI or PID 1 will find at the start: directories that are missing, and
/// files that are kept from the user. Only for a check: a start asks the kernel.
pub(crate) fn warn_of_denied(plan: &VassalPlan, world: &dyn World, found: &mut Diagnostics) {
    // What hooks do before the app starts is not known, and paths may be others in a jail.
    let has_hooks = plan.hooks.iter().any(|hook| hook.phase < Phase::PostApp);
    let has_jail = plan.jail.new_root().is_some() || !plan.jail.maps.users.is_empty();
    if world.host().uid() != 0 || found.failed() || has_hooks || has_jail {
        return;
    }
    // The start says that there is no such user.
    let Some((uid, name)) = user(plan, world) else { return };
    let mut files = Vec::new();
    for output in [&plan.output.out, &plan.output.err].into_iter().flatten() {
        // Root opens it.
        if let Output::File(path) = &output.value {
            files.push((&output.key, &output.at, path, 0));
        }
    }
    for file in &plan.output.of_uwsgi {
        files.push((&file.key, &file.at, &file.value, uid));
    }
    for (key, at, path, uid) in files {
        if path.is_relative() {
            continue;
        }
        // Where links lead; a file that is missing may have its directory.
        let (mut real, mut skipped) = (world.real_path(path), 1);
        if real.is_none() {
            (real, skipped) = (path.parent().and_then(|parent| world.real_path(parent)), 0);
        }
        let above = match &real {
            Some(real) => real.ancestors().skip(skipped),
            None => path.ancestors().skip(1),
        };
        // Rights as in access(2).
        let right = if key.starts_with("https") { 4 } else { 2 };
        // Where a group has the right, the user may be in it.
        let may = |path: &Path, right: u32| {
            world.status(path).map(|there| {
                let bits = if there.uid == uid { there.mode >> 6 } else { there.mode | there.mode >> 3 };
                uid == 0 || bits & right == right
            })
        };
        let mut above: Vec<_> = above.collect();
        above.reverse();
        let above = above.into_iter().find(|directory| may(directory, 1) != Some(true));
        let place = above.unwrap_or(path);
        let is_spooler = &**key == "spooler";
        let is_directory = above.is_none() && world.status(place).is_some_and(|there| there.is_directory);
        let may = may(place, if above.is_some() { 1 } else { right });
        let place = place.display();
        let denied = |verb| format!("uWSGI is user '{name}', who may not {verb} {place}");
        let (why, hint) = match may {
            Some(_) if is_directory && !is_spooler => {
                (format!("{place} is a directory"), "name a file in it")
            }
            Some(true) => continue,
            Some(false) if above.is_some() => (denied("search"), "write another path"),
            Some(false) => (denied(if right == 4 { "read" } else { "write" }), "have it belong to that user"),
            // PID 1 makes the other files.
            None if above.is_some() || right == 4 || is_spooler => {
                (format!("there is no {place}"), "make it")
            }
            None => continue,
        };
        if !found.has(at) {
            found.warning(at, format!("'{key}': {why}")).hint(hint);
        }
    }
}
