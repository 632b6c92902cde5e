//! The IDs of a user namespace: what a map must be like so that the kernel takes it.

use crate::config::diagnostic::Diagnostics;
use crate::config::plan::{IdMap, Located, MapsPlan};

/// The most ranges that the kernel takes (user_namespaces(7)).
const RANGES_MAX: usize = 340;

/// Checks the maps of a plan whose namespaces are those of `key`.
pub(super) fn check(maps: &MapsPlan, namespaces: u64, key: &str, found: &mut Diagnostics) {
    for list in [&maps.users, &maps.groups] {
        let Some(first) = list.first() else { continue };
        if namespaces & libc::CLONE_NEWUSER as u64 == 0 {
            let message = format!("'{}' without 'user' in '{key}'", first.key);
            found.error(&first.at, message).hint(format!("add 'user' to '{key}'"));
        }
        if let Some(Located { key, at, .. }) = list.get(RANGES_MAX) {
            found.error(at, format!("'{key}': the kernel takes {RANGES_MAX} ranges and no more"));
        }
        let has_root = |entry: &Located<IdMap>| match &entry.value {
            IdMap::Auto => true,
            IdMap::Range(range) => range.inside == 0,
        };
        if !list.iter().any(has_root) {
            let message = format!("'{}' without 0: process 1 would not be root inside", first.key);
            found.error(&first.at, message).hint(format!("add '{} = 0:OUTSIDE:1'", first.key));
        }
        for (index, entry) in list.iter().take(RANGES_MAX).enumerate() {
            let before = list.iter().take(index);
            let meets = |other: &&Located<IdMap>| match (&entry.value, &other.value) {
                (IdMap::Range(range), IdMap::Range(other)) => range.meets(other),
                (IdMap::Auto, _) | (_, IdMap::Auto) => true,
            };
            if before.into_iter().any(|other| meets(&other)) {
                found.error(&entry.at, format!("'{}': an ID in it is mapped already", entry.key));
            }
        }
    }
}
