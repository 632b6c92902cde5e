//! Settings → [`EmperorPlan`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::maps;
use super::settings::{Unknown, emperor_key};
use crate::config::diagnostic::Diagnostics;
use crate::config::keys::draft::EmperorDraft;
use crate::config::keys::emperor::EMPEROR;
use crate::config::keys::hooks::{FAMILIES, HookKey};
use crate::config::keys::read::Reader;
use crate::config::keys::row::Read;
use crate::config::keys::{habits, uwsgi, values};
use crate::config::plan::{EmperorPlan, Located, Tyrant};
use crate::config::setting::{Setting, State};
use crate::names;
use crate::path::lexical;

/// The plan of an emperor. Mistakes go to `found`; a plan with mistakes must not be used.
pub(crate) fn plan(settings: &[Setting], found: &mut Diagnostics) -> EmperorPlan {
    let mut draft = EmperorDraft::default();
    let unknown = Unknown::new(&EMPEROR, settings);
    let is_meant = |setting: &Setting| unknown.lookalike(&setting.key).as_deref() == Some("emperor");
    if emperor_key(settings).is_none() && !found.failed() && !settings.iter().any(is_meant) {
        let at = found.start();
        let hint =
            "add 'emperor = DIR', the directory of the vassals' files; these are for 'vassal-init --check'";
        found.error(&at, "there is no 'emperor'").hint(hint);
        return draft.plan;
    }
    // Hooks for vassals given on the command line are read as they are, without expansion.
    let read = |setting: &&Setting| matches!(setting.state, State::Open | State::Verbatim);
    for setting in settings.iter().filter(read) {
        let mut reader = Reader { setting, found };
        match EMPEROR.find(&setting.key).map(|row| row.read) {
            Some(Read::Emperor(read)) => {
                read(&mut draft, &mut reader);
                reader.tell_of_habits(habits::in_path);
            }
            Some(Read::Hook) => {
                if let Some(hook) = for_vassals(&mut reader) {
                    draft.plan.vassals.as_vassal.push(hook);
                }
            }
            Some(Read::Language) if setting.key == b"strict" => {
                reader.value(values::boolean);
            }
            _ => unread(setting, &unknown, found),
        }
    }
    let (is_tyrant, tyrant, mut plan) = (draft.is_tyrant, draft.tyrant, draft.plan);
    plan.tyrant = is_tyrant.then_some(tyrant);
    if let Some(kind) = &draft.tyrant_kind
        && !is_tyrant
        && tyrant != Tyrant::default()
    {
        // If `emperor-tyrant` was forgotten, the files of users would run as root.
        found.error(&kind.at, format!("'{}' without 'emperor-tyrant'", kind.key));
    }
    if plan.tyrant.is_some() && plan.vassals.magic_exec {
        let at = found.start();
        let message = "'emperor-tyrant' with 'emperor-magic-exec': between a look at whose a file is and its \
                       execution another one could take its place";
        found.error(&at, message).hint("have the owners' programs write the files");
    }
    maps::check(&plan.vassals.maps, plan.vassals.namespaces, "emperor-use-clone", found);
    let has_users = plan.vassals.has_namespace(libc::CLONE_NEWUSER);
    if let Some(uid) = plan.run_as.uid.as_ref().filter(|_| has_users) {
        let message = format!("'{}' with 'user' in 'emperor-use-clone'", uid.key);
        found.error(&uid.at, message).hint("have that user start the emperor");
    }
    let has_both = has_users && plan.vassals.has_namespace(libc::CLONE_NEWNS);
    if let Some(tree) = plan.vassals.map_trees.first().filter(|_| !has_both) {
        let message = format!("'{}' without 'user' and 'fs' in 'emperor-use-clone'", tree.key);
        found.error(&tree.at, message).hint("add both to 'emperor-use-clone'");
    }
    check_trees(&plan.vassals.map_trees, found);
    if plan.tyrant.is_some() && has_users {
        let at = found.start();
        let message = "'emperor-tyrant' with 'user' in 'emperor-use-clone': the owner of a file would have \
                       no ID in that namespace";
        found.error(&at, message).hint("leave one of them out, or have each owner start an emperor");
    }
    if let (None, Some(Located { key, at, .. })) = (&plan.cgroups.directory, plan.cgroups.options.first()) {
        let at = at.clone();
        found
            .error(&at, format!("'{key}' without 'emperor-cgroup'"))
            .hint("add 'emperor-cgroup = DIR', where each vassal gets a cgroup of its own");
    }
    // Who may become any user may signal the processes of any user, too. Stock files of uWSGI, whose emperor
    // kills nothing, name CAP_SETUID only.
    plan.capabilities = plan.capabilities.map(|cap| if cap & SETUID == 0 { cap } else { cap | KILL });
    if let Some((key, needed)) = plan.kept_capabilities().and_then(|kept| plan.lacks(kept)) {
        let place = settings.iter().rfind(|setting| setting.key == key.as_bytes());
        let at = place.map_or_else(|| found.start(), |setting| setting.at.clone());
        let message = format!("'{key}' takes the capabilities {needed}, which 'uid' or 'cap' leaves out");
        found.error(&at, message).hint(format!("add '{needed}' to 'cap', or leave 'uid' and 'cap' out"));
    }
    // In the order of a vassal's command line under uWSGI's emperor, whatever the order in the file.
    plan.vassals.before = draft.inherit_before;
    plan.vassals.before.append(&mut draft.include_before);
    plan.vassals.before.append(&mut draft.set);
    plan.vassals.behind = draft.inherit;
    plan.vassals.behind.append(&mut draft.include);
    plan
}

const KILL: u64 = 1 << 5;
const SETUID: u64 = 1 << 7;

/// Refuses a tree in another one, where vassals can put another directory in its place.
fn check_trees(trees: &[Located<PathBuf>], found: &mut Diagnostics) {
    let paths: Vec<_> = trees.iter().map(|tree| lexical(&tree.value)).collect();
    for ((tree, path), number) in trees.iter().zip(&paths).zip(0..) {
        let meets = |other: &&PathBuf| path.starts_with(other) || other.starts_with(path);
        if let Some(other) = paths.iter().take(number).find(meets) {
            let message =
                format!("'{}' in another one: vassals can exchange what is in {}", tree.key, other.display());
            found.error(&tree.at, message).hint("name the upper one only");
        }
    }
}

/// Keys of uWSGI's emperor that take rights away from it, or from its vassals. `emperor-cap` and
/// `emperor-tyrant` have variants.
const CONFINING: &str = "chroot immediate-gid immediate-uid pivot-root pivot_root vassal-cap vassals-cap";

/// Warns of a key that the emperor does not read, unless it is a placeholder that is used.
fn unread(setting: &Setting, unknown: &Unknown<'_>, found: &mut Diagnostics) {
    let key = setting.key.escape_ascii();
    let starts = |prefix: &str| setting.key.starts_with(prefix.as_bytes());
    let confining =
        names::contains(CONFINING, &setting.key) || starts("emperor-cap") || starts("emperor-tyrant");
    if confining {
        let message = format!("'{key}' is not supported by this emperor: what it takes away would be left");
        found.error(&setting.at, message);
    } else if let Some(close) = unknown.lookalike(&setting.key) {
        let message = format!("unknown option '{key}'");
        found.error(&setting.at, message).hint(format!("did you mean '{close}'?"));
    } else if unknown.strict && !uwsgi::has(&setting.key) {
        found.error(&setting.at, format!("unknown option '{key}'"));
    } else if !setting.used.get() {
        let told = found.warning(&setting.at, format!("'{key}' has no effect: the emperor does not read it"));
        let own = format!("emperor-{key}");
        if EMPEROR.find(own.as_bytes()).is_some() {
            told.hint(format!("write '{own}'"));
        }
    }
}

/// A hook that the vassals run. They parse it again; it is parsed here so that a mistake is reported for the
/// emperor's file, and not for every vassal.
fn for_vassals(it: &mut Reader<'_>) -> Option<(String, OsString)> {
    let HookKey::Ours(_, family) = HookKey::of(&it.setting.key) else { return None };
    it.checked(FAMILIES.get(family)?.parse(it.text()))?;
    let key = String::from_utf8_lossy(&it.setting.key).into_owned();
    Some((key, OsStr::from_bytes(it.text()).to_owned()))
}
