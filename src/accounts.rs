//! Users and groups by name: from the jail's own `/etc/passwd` and `/etc/group`, else from those of the host
//! before the root changed.

use std::path::Path;
use std::rc::Rc;

use rustix::fs::{Stat, fstat};

use crate::config::plan::{Id, Located};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::path::Walk;

/// A user with its fields in the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// Number.
    pub uid: u32,
    /// Name, if the number has one.
    pub name: Option<String>,
    /// Primary group, if the user is known.
    pub gid: Option<u32>,
    /// Home directory; empty if there is none.
    pub home: String,
    /// Shell; empty if there is none.
    pub shell: String,
}

/// Both databases of a root directory, and others to fall back on.
#[derive(Debug)]
pub struct Accounts {
    passwd: Database,
    group: Database,
    /// Whether only root can have written the two.
    is_believed: bool,
    host: Option<Rc<Accounts>>,
}

/// `/etc/passwd` or `/etc/group`: lines of fields separated by colons (passwd(5), group(5)).
#[derive(Debug)]
struct Database {
    path: &'static str,
    text: Result<String>,
}

impl Accounts {
    /// The databases under the present root.
    pub fn read() -> Self {
        let (passwd, group) = (Database::read("/etc/passwd").0, Database::read("/etc/group").0);
        Self { passwd, group, is_believed: true, host: None }
    }

    /// No databases: only numbers are known.
    pub fn none() -> Self {
        let empty = |path| Database { path, text: Ok(String::new()) };
        Self { passwd: empty("/etc/passwd"), group: empty("/etc/group"), is_believed: true, host: None }
    }

    /// The databases under the present root, with those of the host for names that are missing there. They
    /// are believed only if nobody but root can change them: otherwise a tenant could choose its own IDs.
    pub fn read_in_jail(host: Rc<Self>, walk: &Walk) -> Self {
        let (passwd, first) = Database::read("/etc/passwd");
        let (group, second) = Database::read("/etc/group");
        let is_believed = [(&passwd, first), (&group, second)].iter().all(|(database, there)| {
            // A database that cannot be read claims nothing.
            there.as_ref().is_none_or(|there| walk.is_ours_alone(Path::new(database.path), there))
        });
        Self { passwd, group, is_believed, host: Some(host) }
    }

    /// A user by name or number. A number needs no entry.
    ///
    /// # Errors
    /// Neither database has the name, or the jail may not give it this number.
    pub fn user(&self, id: &Id) -> Result<User> {
        let own = self.passwd.user(id);
        let (host, name) = match (&self.host, id) {
            (Some(host), Id::Number(_)) if !self.is_believed => return host.user(id),
            (_, Id::Number(uid)) => return Ok(own.unwrap_or_else(|| User { uid: *uid, ..User::default() })),
            (Some(host), Id::Name(name)) => (host, name),
            (None, Id::Name(name)) => return own.ok_or_else(|| self.passwd.missing("user", name)),
        };
        let known = host.user(id);
        let Some(own) = own else { return known };
        if self.may_say(name, own.uid, known.as_ref().ok().map(|user| user.uid)) {
            return if self.is_believed { Ok(own) } else { known };
        }
        Err(self.claimed("user", "uid", name, own.uid, self.passwd.path))
    }

    /// A group's number, by name or number.
    ///
    /// # Errors
    /// As [`Self::user`].
    pub fn group(&self, id: &Id) -> Result<u32> {
        let name = match id {
            Id::Number(number) => return Ok(*number),
            Id::Name(name) => name,
        };
        match (self.group.group(name), &self.host) {
            (Some(gid), Some(host)) if !self.may_say(name, gid, host.group(id).ok()) => {
                Err(self.claimed("group", "gid", name, gid, self.group.path))
            }
            (Some(gid), _) => Ok(gid),
            (None, Some(host)) => host.group(id),
            (None, None) => Err(self.group.missing("group", name)),
        }
    }

    /// Whether a jail may give a name this number: the one of the host; or any other except root's, if the
    /// jail's database is believed.
    fn may_say(&self, name: &str, number: u32, of_host: Option<u32>) -> bool {
        of_host == Some(number) || self.is_believed && (number != 0 || name == "root")
    }

    /// The error for a name and number that [`Self::may_say`] refuses.
    fn claimed(&self, kind: &str, key: &str, name: &str, number: u32, path: &str) -> Error {
        let why = if self.is_believed { "" } else { ", which others than root can change" };
        let reason =
            format_args!("is {number} in {path} of the jail{why}: write {key} = {number} if that is meant");
        Error::new(kind, format_args!("'{name}'"), reason)
    }

    /// The groups that have `user` as a member. The host's database counts only if the jail has none, or has
    /// one that is not believed. A jail cannot add root's group.
    pub fn memberships(&self, user: &str) -> Vec<u32> {
        match (&self.group.text, &self.host) {
            (text, Some(host)) if text.is_err() || !self.is_believed => host.memberships(user),
            (_, Some(host)) => {
                let mut groups = self.group.memberships(user);
                groups.retain(|&gid| gid != 0 || host.group.memberships(user).contains(&0));
                groups
            }
            (_, None) => self.group.memberships(user),
        }
    }

    /// The group that a file of a user counts as: the file's own if the user is a member, otherwise the
    /// user's primary group. A user without an entry may be in another database than these two. For such a
    /// user the file's group counts if it has no entry either; otherwise the result is `None`.
    pub fn group_of_file(&self, uid: u32, gid: u32) -> Option<u32> {
        match self.passwd.user(&Id::Number(uid)) {
            Some(User { name: Some(name), gid: Some(primary), .. }) => {
                let is_in = gid == primary || self.group.memberships(&name).contains(&gid);
                Some(if is_in { gid } else { primary })
            }
            _ => (!self.group.has(&mut |fields| id_at(fields, 2) == Some(gid))).then_some(gid),
        }
    }

    /// The group that only this user is in: the primary one, if it has no other members.
    pub fn own_group(&self, uid: u32) -> Option<u32> {
        let user = self.passwd.user(&Id::Number(uid));
        let name = user.as_ref().and_then(|user| user.name.as_deref()).unwrap_or_default();
        let gid = user.as_ref().and_then(|user| user.gid).unwrap_or(uid);
        let others = self
            .passwd
            .has(&mut |fields| id_at(fields, 3) == Some(gid) && id_at(fields, 2) != Some(uid))
            || self.group.has(&mut |fields| {
                let members = fields.get(3).copied().unwrap_or_default();
                id_at(fields, 2) == Some(gid) && members.split(',').any(|one| !one.is_empty() && one != name)
            });
        (!others).then_some(gid)
    }

    /// As [`Self::user`], for a configured value. The error names the place of the value.
    ///
    /// # Errors
    /// As [`Self::user`].
    pub fn user_of(&self, id: &Located<Id>) -> Result<User> {
        self.user(&id.value).map_err(|error| written(&error, id))
    }

    /// As [`Self::group`], for a configured value. The error names the place of the value.
    ///
    /// # Errors
    /// As [`Self::group`].
    pub fn group_of(&self, id: &Located<Id>) -> Result<u32> {
        self.group(&id.value).map_err(|error| written(&error, id))
    }
}

/// The number in a field of an entry.
fn id_at(fields: &[&str], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok()
}

/// The ranges of IDs that a user is granted besides its own, in /etc/subuid or /etc/subgid (subuid(5),
/// subgid(5)): the first ID and the count of each.
///
/// # Errors
/// The file cannot be read.
pub fn subordinate(path: &'static str, user: &User) -> Result<Vec<(u32, u32)>> {
    let (database, _) = Database::read(path);
    let mut ranges = Vec::new();
    database.find(&mut |fields| {
        ranges.extend(
            grant(fields).filter(|(owner, _, _)| is_of(owner, user)).map(|(_, first, count)| (first, count)),
        );
        false
    });
    database.text.map(|_| ranges)
}

/// An ID of these ranges of a user's that somebody else is granted in the same file, and who that is.
pub fn shared(path: &'static str, user: &User, ranges: &[(u32, u32)]) -> Option<(u32, String)> {
    let mut found = None;
    Database::read(path).0.find(&mut |fields| {
        if let Some((owner, first, count)) = grant(fields).filter(|(owner, _, _)| !is_of(owner, user)) {
            let meet = |&&(own, own_count): &&(u32, u32)| own < first + count && first < own + own_count;
            found = ranges.iter().find(meet).map(|(own, _)| (first.max(*own), owner.to_owned()));
        }
        found.is_some()
    });
    found
}

/// The first ID from `lowest` on above which nobody is granted one in this file.
pub fn free_from(path: &'static str, lowest: u32) -> u32 {
    let mut free = lowest;
    Database::read(path).0.find(&mut |fields| {
        free = grant(fields).map_or(free, |(_, first, count)| free.max(first + count));
        false
    });
    free
}

/// Whom a line of /etc/subuid or /etc/subgid grants IDs, the first one and the count.
fn grant<'a>(fields: &[&'a str]) -> Option<(&'a str, u32, u32)> {
    let (owner, first, count) = (fields.first()?, id_at(fields, 1)?, id_at(fields, 2)?);
    (count > 0 && first.checked_add(count).is_some()).then_some((owner, first, count))
}

fn is_of(owner: &str, user: &User) -> bool {
    owner == user.uid.to_string() || Some(owner) == user.name.as_deref()
}

fn written(error: &Error, id: &Located<Id>) -> Error {
    Error::new(&format!("{}:", id.at), &id.key, error)
}

impl Database {
    /// Reads the database. Returns also the result of stat(2) for the file.
    fn read(path: &'static str) -> (Self, Option<Stat>) {
        // The file may be a tenant's: a fifo would block, and a huge file would be read completely.
        let file = files::open_file(Path::new(path));
        let stat = file.as_ref().ok().and_then(|file| fstat(file).ok());
        let text = file.and_then(files::read_all);
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let text = text.map(|it| String::from_utf8(it).unwrap_or_else(|error| lossy(error.as_bytes())));
        (Self { path, text: text.context("read", path) }, stat)
    }

    /// Calls `look` with the fields of each entry until it returns true. A database that cannot be read has
    /// no entries.
    fn find(&self, look: &mut dyn FnMut(&[&str]) -> bool) {
        let text = self.text.as_deref().unwrap_or_default();
        let (mut fields, mut start) = (Vec::with_capacity(8), 0);
        // std's way to split text would take a third of all instructions of a vassal's start.
        for (at, byte) in text.bytes().chain([b'\n']).enumerate() {
            if byte == b':' || byte == b'\n' {
                fields.push(text.get(start..at).unwrap_or_default());
                start = at + 1;
            }
            if byte == b'\n' {
                if look(&fields) {
                    return;
                }
                fields.clear();
            }
        }
    }

    fn user(&self, id: &Id) -> Option<User> {
        let mut found = None;
        self.find(&mut |fields| {
            if let [name, _, uid, gid, ..] = fields
                && let Ok(uid) = uid.parse()
                && match id {
                    Id::Number(number) => *number == uid,
                    Id::Name(wanted) => wanted == name,
                }
            {
                let text = |index: usize| fields.get(index).copied().unwrap_or_default().to_owned();
                let (name, gid) = (Some((*name).to_owned()), gid.parse().ok());
                found = Some(User { uid, name, gid, home: text(5), shell: text(6) });
            }
            found.is_some()
        });
        found
    }

    /// Whether there is such an entry.
    fn has(&self, is_it: &mut dyn FnMut(&[&str]) -> bool) -> bool {
        let mut has = false;
        self.find(&mut |fields| {
            has = is_it(fields);
            has
        });
        has
    }

    fn group(&self, name: &str) -> Option<u32> {
        let mut found = None;
        self.find(&mut |fields| {
            if let [known, _, gid, ..] = fields
                && *known == name
            {
                found = gid.parse().ok();
            }
            found.is_some()
        });
        found
    }

    fn memberships(&self, user: &str) -> Vec<u32> {
        let mut found = Vec::new();
        self.find(&mut |fields| {
            if let [_, _, gid, members, ..] = fields
                && members.as_bytes().split(|byte| *byte == b',').any(|member| member == user.as_bytes())
            {
                found.extend(gid.parse::<u32>());
            }
            false
        });
        found
    }

    /// The error for a missing name, or the reason why the database cannot be read.
    fn missing(&self, kind: &str, name: &str) -> Error {
        let object = format!("'{name}'");
        match &self.text {
            Ok(_) => Error::new(kind, object, format_args!("does not exist in {}", self.path)),
            Err(error) => Error::new(kind, object, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Location;

    fn accounts(passwd: &str, group: &str, host: Option<Accounts>) -> Accounts {
        let database = |path, text: &str| Database { path, text: Ok(text.to_owned()) };
        Accounts {
            passwd: database("/etc/passwd", passwd),
            group: database("/etc/group", group),
            is_believed: true,
            host: host.map(Rc::new),
        }
    }

    fn name(name: &str) -> Id {
        Id::Name(name.into())
    }

    #[test]
    fn users_are_found_by_name_or_number() {
        let accounts = accounts("root:x:0:0::/:/bin/sh\nbroken\nann:x:1000:1001::/:\n", "", None);
        let (home, shell) = ("/".into(), String::new());
        let ann = User { uid: 1000, name: Some("ann".into()), gid: Some(1001), home, shell };
        assert_eq!(accounts.user(&name("ann")), Ok(ann.clone()));
        assert_eq!(accounts.user(&Id::Number(1000)), Ok(ann));
        assert_eq!(accounts.user(&Id::Number(7)), Ok(User { uid: 7, ..User::default() }));
        let at = Location { file: "a.ini".into(), line: 2, column: 1 };
        let error = accounts.user_of(&Located { value: name("bob"), key: "uid".into(), at }).unwrap_err();
        assert_eq!(error.to_string(), "a.ini:2:1: uid: user 'bob': does not exist in /etc/passwd");
    }

    #[test]
    fn the_jail_comes_before_the_host() {
        let host = accounts("ann:x:1:1::/:\nbob:x:2:2::/:\n", "web:x:8:\nold:x:9:\n", None);
        let jail = accounts("ann:x:1000:1000::/:\n", "web:x:80:\n", Some(host));
        assert_eq!(jail.user(&name("ann")).unwrap().uid, 1000);
        assert_eq!(jail.user(&name("bob")).unwrap().uid, 2);
        assert_eq!((jail.group(&name("web")), jail.group(&name("old"))), (Ok(80), Ok(9)));
        assert!(jail.group(&name("none")).is_err());
    }

    #[test]
    fn no_name_is_root_because_a_jail_says_so() {
        let host = || accounts("ann:x:1:1::/:\ntoor:x:0:0::/:\n", "web:x:8:\n", None);
        assert_eq!(host().user(&name("toor")).map(|user| user.uid), Ok(0));
        let jail = accounts("ann:x:0:0::/:\nroot:x:0:0::/:\n", "web:x:0:\nroot:x:0:\n", Some(host()));
        let error = jail.user(&name("ann")).unwrap_err().to_string();
        assert_eq!(error, "user 'ann': is 0 in /etc/passwd of the jail: write uid = 0 if that is meant");
        let error = jail.group(&name("web")).unwrap_err().to_string();
        assert_eq!(error, "group 'web': is 0 in /etc/group of the jail: write gid = 0 if that is meant");
        for id in [name("root"), Id::Number(0)] {
            assert_eq!((jail.user(&id).map(|user| user.uid), jail.group(&id)), (Ok(0), Ok(0)));
        }
        assert_eq!(jail.user(&name("toor")).map(|user| user.uid), Ok(0), "the host's own");
        // If the root has not changed, both databases are the same.
        let host = || accounts("toor:x:0:0::/:\n", "wheel:x:0:toor\n", None);
        let same = accounts("toor:x:0:0::/:\n", "wheel:x:0:toor,ann\nweb:x:8:ann\n", Some(host()));
        assert_eq!(
            (same.user(&name("toor")).map(|user| user.uid), same.group(&name("wheel"))),
            (Ok(0), Ok(0))
        );
        assert_eq!((same.memberships("toor"), same.memberships("ann")), (vec![0], vec![8]));
    }

    #[test]
    fn a_jail_that_others_can_change_says_nothing() {
        let host =
            accounts("root:x:0:0::/:\nann:x:7:7::/:\nbob:x:8:8::/:\n", "web:x:9:bob\ndisk:x:6:\n", None);
        let passwd = "root:x:0:6::/:\nann:x:7:6::/x:\nbob:x:7:6::/:\ncy:x:5:5::/:\n";
        let jail = accounts(passwd, "disk:x:6:ann\nroot:x:0:ann\nweb:x:6:\nnew:x:5:\n", Some(host));
        let jail = Accounts { is_believed: false, ..jail };
        let gid = |id| jail.user(&id).map(|user| user.gid);
        assert_eq!((gid(name("root")), gid(name("ann"))), (Ok(Some(0)), Ok(Some(7))));
        assert_eq!((gid(Id::Number(8)), gid(Id::Number(5))), (Ok(Some(8)), Ok(None)));
        assert_eq!((jail.group(&name("disk")), jail.group(&Id::Number(5))), (Ok(6), Ok(5)));
        assert_eq!((jail.memberships("ann"), jail.memberships("bob")), (vec![], vec![9]));
        let error = jail.user(&name("bob")).unwrap_err().to_string();
        let says =
            "is 7 in /etc/passwd of the jail, which others than root can change: write uid = 7 if that is";
        assert!(error.contains(says), "{error}");
        assert!(jail.user(&name("cy")).is_err());
        assert!(jail.group(&name("web")).is_err() && jail.group(&name("new")).is_err());
    }

    #[test]
    fn a_file_gives_its_owner_no_group_of_others() {
        let passwd = "ann:x:1000:1000::/:\nbob:x:1001:1001::/:\ncy:x:1002:50::/:\ndi:x:1003:50::/:\n";
        let accounts = accounts(passwd, "ann:x:1000:\nbob:x:1001:ann,bob\nweb:x:7:bob\nsecret:x:8:\n", None);
        for (uid, gid, expected) in [
            (1000, 1000, Some(1000)),
            (1000, 1001, Some(1001)),
            (1000, 8, Some(1000)),
            (1000, 7, Some(1000)),
            (1000, 9999, Some(1000)),
            (1001, 7, Some(7)),
            // The user comes from another database, so no entry of these two applies.
            (5000, 5000, Some(5000)),
            (5000, 6000, Some(6000)),
            (5000, 8, None),
            (5000, 1000, None),
        ] {
            assert_eq!(accounts.group_of_file(uid, gid), expected, "{uid} {gid}");
        }
        for (uid, expected) in [(1000, Some(1000)), (1001, None), (1002, None), (5000, Some(5000))] {
            assert_eq!(accounts.own_group(uid), expected, "{uid}");
        }
    }

    #[test]
    fn memberships_match_whole_names() {
        let accounts = accounts("", "a:x:1:ann,bob\nb:x:2:annie\nc:x:3:\nd:x:4:bob,ann\n", None);
        assert_eq!(accounts.memberships("ann"), [1, 4]);
    }
}
