//! Who the app runs as: names to numbers, and the privilege drop.
//!
//! Everything here that fails is fatal to the process it happens in: a half-dropped privilege is worse than none.

use std::fs;
use std::path::Path;

use rustix::io::Errno;

use crate::config::plan::{Id, Located, VassalPlan};
use crate::error::{Error, Result};
use crate::sys::creds;

/// An identity with nothing left to look up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User ID, `None` to stay.
    pub uid: Option<u32>,
    /// Group ID, `None` to stay.
    pub gid: Option<u32>,
    /// Supplementary groups, `None` to keep those there are.
    pub groups: Option<Vec<u32>>,
}

/// The sub-step of [`Identity::assume`] that failed.
pub type Step = &'static str;

impl Identity {
    /// Resolves the plan's user and groups from `/etc/passwd` and `/etc/group` under the present root.
    ///
    /// Without `gid` the user's primary group is taken: uWSGI would stay in root's group. Supplementary groups are
    /// those of the user (unless `no-initgroups`), the primary group and `add-gid`.
    ///
    /// # Errors
    /// A name that does not exist, or a database that cannot be read.
    pub fn resolve(plan: &VassalPlan) -> Result<Self> {
        if plan.uid.is_none() && plan.gid.is_none() && plan.add_gids.is_empty() {
            return Ok(Self { uid: None, gid: None, groups: None });
        }
        let passwd = Database::of("/etc/passwd");
        let group = Database::of("/etc/group");
        let user = plan.uid.as_ref().map(|uid| find_user(&passwd, uid)).transpose()?;
        let gid = match &plan.gid {
            Some(gid) => Some(find_group(&group, gid)?),
            None => user.as_ref().and_then(|user| user.gid),
        };
        let mut groups: Vec<u32> = gid.into_iter().collect();
        if plan.initgroups
            && let Some(name) = user.as_ref().and_then(|user| user.name.as_deref())
        {
            groups.extend(memberships(&group, name));
        }
        for add in &plan.add_gids {
            groups.push(find_group(&group, add)?);
        }
        groups.sort_unstable();
        groups.dedup();
        Ok(Self { uid: user.map(|user| user.uid), gid, groups: Some(groups) })
    }

    /// Becomes this identity for good. Allocates nothing.
    ///
    /// The order is forced: groups and gid need the privileges that changing the uid gives up. The result is
    /// verified, including that the old uid cannot be had back.
    ///
    /// # Errors
    /// The system call that failed, or EPERM for a verification that did. The caller must exit.
    pub fn assume(&self) -> std::result::Result<(), (Step, Errno)> {
        let (uids, gids) = creds::ids();
        let is = |ids: [u32; 3], wanted: Option<u32>| wanted.is_none_or(|id| ids == [id; 3]);
        if uids != [0; 3] && is(uids, self.uid) && is(gids, self.gid) {
            // An ordinary user who stays what it is: nothing to drop, and setgroups would not be allowed.
            return Ok(());
        }
        if let Some(groups) = &self.groups {
            creds::set_groups(groups).map_err(|errno| ("setgroups", errno))?;
        }
        if let Some(gid) = self.gid {
            creds::set_gid(gid).map_err(|errno| ("setresgid", errno))?;
        }
        if let Some(uid) = self.uid {
            creds::set_uid(uid).map_err(|errno| ("setresuid", errno))?;
        }
        let (uids, gids) = creds::ids();
        let back_to_root = self.uid.is_some_and(|uid| uid != 0) && creds::set_uid(0).is_ok();
        if !is(uids, self.uid) || !is(gids, self.gid) || back_to_root {
            return Err(("verify the privilege drop", Errno::PERM));
        }
        Ok(())
    }
}

/// A user with what the database knows of it.
struct User {
    uid: u32,
    name: Option<String>,
    gid: Option<u32>,
}

/// `/etc/passwd` or `/etc/group`: lines of fields separated by colons (passwd(5), group(5)).
struct Database {
    path: &'static str,
    text: std::result::Result<String, Error>,
}

impl Database {
    fn of(path: &'static str) -> Self {
        let text = fs::read(Path::new(path)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Self { path, text: crate::error::Context::context(text, "read", path) }
    }

    /// The fields of each entry. An unreadable database has none: a number needs no entry.
    fn entries(&self) -> impl Iterator<Item = Vec<&str>> {
        self.text.as_deref().unwrap_or_default().lines().map(|line| line.split(':').collect())
    }

    /// The error for a name that is not there, or the reason why nobody can know.
    fn missing(&self, kind: &str, name: &str, id: &Located<Id>) -> Error {
        let object = format!("'{name}' ({}, {})", id.key, id.at);
        match &self.text {
            Ok(_) => Error::new(kind, object, format_args!("does not exist in {}", self.path)),
            Err(error) => Error::new(kind, object, error),
        }
    }
}

fn find_user(passwd: &Database, id: &Located<Id>) -> Result<User> {
    let entry = |matches: &dyn Fn(&str, u32) -> bool| {
        passwd.entries().find_map(|fields| match fields.as_slice() {
            [name, _, uid, gid, ..] => {
                let uid = uid.parse().ok()?;
                matches(name, uid).then(|| User {
                    uid,
                    name: Some((*name).to_owned()),
                    gid: gid.parse().ok(),
                })
            }
            _ => None,
        })
    };
    match &id.value {
        Id::Number(number) => {
            Ok(entry(&|_, uid| uid == *number).unwrap_or(User { uid: *number, name: None, gid: None }))
        }
        Id::Name(wanted) => {
            entry(&|name, _| name == wanted).ok_or_else(|| passwd.missing("user", wanted, id))
        }
    }
}

fn find_group(group: &Database, id: &Located<Id>) -> Result<u32> {
    match &id.value {
        Id::Number(number) => Ok(*number),
        Id::Name(wanted) => group
            .entries()
            .find_map(|fields| match fields.as_slice() {
                [name, _, gid, ..] if name == wanted => gid.parse().ok(),
                _ => None,
            })
            .ok_or_else(|| group.missing("group", wanted, id)),
    }
}

/// The groups that list `user` as a member.
fn memberships(group: &Database, user: &str) -> Vec<u32> {
    group
        .entries()
        .filter_map(|fields| match fields.as_slice() {
            [_, _, gid, members, ..] if members.split(',').any(|member| member == user) => gid.parse().ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Location;

    fn database(path: &'static str, text: &str) -> Database {
        Database { path, text: Ok(text.to_owned()) }
    }

    fn located(value: Id) -> Located<Id> {
        let at = Location { file: "a.ini".into(), line: 2, column: 1 };
        Located { value, key: "uid".into(), at }
    }

    #[test]
    fn users_are_found_by_name_or_number() {
        let passwd = database("/etc/passwd", "root:x:0:0::/:/bin/sh\nbroken\nann:x:1000:1001::/:\n");
        let ann = find_user(&passwd, &located(Id::Name("ann".into()))).unwrap();
        assert_eq!((ann.uid, ann.gid), (1000, Some(1001)));
        let ann = find_user(&passwd, &located(Id::Number(1000))).unwrap();
        assert_eq!((ann.name.as_deref(), ann.gid), (Some("ann"), Some(1001)));
        let nobody = find_user(&passwd, &located(Id::Number(7))).unwrap();
        assert_eq!((nobody.uid, nobody.name, nobody.gid), (7, None, None));
        let error = find_user(&passwd, &located(Id::Name("bob".into()))).err().unwrap();
        assert_eq!(error.to_string(), "user 'bob' (uid, a.ini:2:1): does not exist in /etc/passwd");
    }

    #[test]
    fn memberships_match_whole_names() {
        let group = database("/etc/group", "a:x:1:ann,bob\nb:x:2:annie\nc:x:3:\nd:x:4:bob,ann\n");
        assert_eq!(memberships(&group, "ann"), [1, 4]);
    }
}
