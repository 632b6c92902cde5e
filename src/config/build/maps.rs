//! The IDs of a user namespace: what a map must be like so that the kernel takes it.

use std::path::Path;

use crate::config::diagnostic::Diagnostics;
use crate::config::plan::{IdMap, IdRange, Located, MapsPlan};
use crate::config::world::World;

/// Checks the maps of a plan whose namespaces are those of `key`.
pub(super) fn check(maps: &MapsPlan, namespaces: u64, key: &str, found: &mut Diagnostics) {
    for list in [&maps.users, &maps.groups] {
        let Some(first) = list.first() else { continue };
        if namespaces & libc::CLONE_NEWUSER as u64 == 0 {
            let message = format!("'{}' without 'user' in '{key}'", first.key);
            found.error(&first.at, message).hint(format!("add 'user' to '{key}'"));
        }
        if let Some(Located { key, at, .. }) = list.get(IdRange::MOST) {
            found.error(at, format!("'{key}': the kernel takes {} ranges and no more", IdRange::MOST));
        }
        let has_root = |entry: &Located<IdMap>| match &entry.value {
            IdMap::Auto => true,
            IdMap::Range(range) => range.inside == 0,
        };
        if !list.iter().any(has_root) {
            let message = format!("'{}' without 0: process 1 would not be root inside", first.key);
            found.error(&first.at, message).hint(format!("add '{} = 0:OUTSIDE:1'", first.key));
        }
        for (index, entry) in list.iter().take(IdRange::MOST).enumerate() {
            let clash = |other: &Located<IdMap>| match (&entry.value, &other.value) {
                (IdMap::Range(range), IdMap::Range(other)) => range.meets(other).map(|(id, side)| {
                    let IdRange { inside, outside, count } = other;
                    format!("{id} {side} is mapped by {inside}:{outside}:{count} already")
                }),
                (IdMap::Auto, _) | (_, IdMap::Auto) => Some("'auto' goes with no other map".into()),
            };
            if let Some(why) = list.iter().take(index).find_map(clash) {
                found.error(&entry.at, format!("'{}': {why}", entry.key));
            }
        }
    }
}

/// Warns of maps, read by root, in which there is a user or a group of this machine.
pub(crate) fn warn_of_known(maps: &MapsPlan, world: &dyn World, found: &mut Diagnostics) {
    if world.host().uid() != 0 || found.failed() {
        return;
    }
    let read =
        |path: &str| String::from_utf8_lossy(&world.read(Path::new(path)).unwrap_or_default()).into_owned();
    let groups = if maps.groups.is_empty() { &maps.users } else { &maps.groups };
    let lists =
        [(&maps.users, "user", "/etc/passwd", "/etc/subuid"), (groups, "group", "/etc/group", "/etc/subgid")];
    for (list, kind, database, grants) in lists {
        for Located { value, key, at } in list {
            let ranges = match value {
                IdMap::Range(range) => vec![(range.outside, range.count)],
                IdMap::Auto => read(grants).lines().filter_map(granted_to_root).collect(),
            };
            let is_in = |id: u32| {
                ranges.iter().any(|(first, count)| id.checked_sub(*first).is_some_and(|at| at < *count))
            };
            let text = read(database);
            let known = text.lines().find_map(|line| {
                let mut fields = line.split(':');
                let (name, id) = (fields.next()?, fields.nth(1)?.parse().ok()?);
                is_in(id).then_some((name, id))
            });
            if let Some((name, id)) = known {
                let message = format!(
                    "'{key}': {id} outside is '{name}', a {kind} of this machine, which a vassal can be"
                );
                found.warning(at, message).hint(format!("map IDs that are not in {database}"));
            }
        }
    }
}

/// The IDs that a line of /etc/subuid or /etc/subgid grants root: the first one and the count.
fn granted_to_root(line: &str) -> Option<(u32, u32)> {
    let (owner, ids) = line.split_once(':')?;
    let (first, count) = ids.split_once(':')?;
    matches!(owner, "root" | "0").then_some((first.parse().ok()?, count.parse().ok()?))
}
