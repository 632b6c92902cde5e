//! The IDs of a user namespace: what a map must be like so that the kernel takes it.

use crate::config::diagnostic::Diagnostics;
use crate::config::plan::{IdMap, IdRange, Located, MapsPlan};

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
