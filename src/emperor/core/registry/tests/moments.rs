//! What comes at a moment at which nobody expects it: while a file is read, while the last instance ends, or
//! between two programs.

use super::*;

/// What the file of a vassal is, read for its next process.
fn read(story: &mut Story, modified: i64) -> Vec<String> {
    let version = FileVersion { modified, owner: story.owner, ..FileVersion::default() };
    story.event("a", Event::Reading(version))
}

#[test]
fn an_instance_whose_file_was_just_read_is_not_stopped_before_it_is_created() {
    let mut story = Story::new();
    run_set(&mut story, 1);
    touch(&mut story);
    run_one(&mut story, 2, rolling(1));
    assert_eq!(story.died("a").last().unwrap(), "a: Spawn");
    // The other one can be relied on now, so that this one is one too many.
    story.now += Duration::from_secs(1);
    assert_eq!(read(&mut story, 1), [""; 0]);
    let effects = story.spawned("a");
    assert_eq!(effects[..1], ["a/1| started (pid 103)"]);
    assert!(effects.contains(&format!("a/2| {TAKES_OVER}")), "{effects:?}");
    assert!(effects.contains(&"a: AskToStop".to_owned()), "{effects:?}");
}

#[test]
fn a_trial_that_fails_while_the_last_old_instance_ends_is_the_vassals_only_one() {
    let mut story = Story::new();
    story.tells = true;
    run_set(&mut story, 1);
    touch(&mut story);
    // It is of no use any more.
    let leave = story.said("a", FromVassal::Announced(Announcement::Leave));
    assert!(leave.contains(&"a/1| stopping: a later reload replaces it".to_owned()), "{leave:?}");
    let effects = story.event("a#2", InstanceEvent::SpawnFailed(failed("it")));
    assert_eq!(effects, ["a/2| cannot start: do it: no luck", "a/2| reload refused: do it: no luck"]);
    story.died("a");
    assert_eq!(numbers(&story), [2]);
    assert_eq!(story.pass(2), ["a#2: Spawn"]);
}

#[test]
fn a_vassal_is_stopped_by_command_and_not_forgotten_if_only_a_trial_is_left() {
    let mut story = Story::new();
    run_set(&mut story, 1);
    touch(&mut story);
    // It has failed soon, and would be tried again much later.
    story.now -= Duration::from_millis(500);
    story.died("a");
    assert_eq!(numbers(&story), [2]);
    story.order(Order::Stop, "a").0.unwrap();
    assert_eq!((story.state("a#2"), story.outcome(Order::Stop, "a")), (State::Held, Outcome::Done));
    assert_eq!(story.order(Order::Start, "a").1.last().unwrap(), "a#2: Spawn");
}

#[test]
fn what_was_on_trial_for_an_older_file_when_none_was_up_is_not_refused() {
    let mut story = Story::new();
    run_set(&mut story, 1);
    touch(&mut story);
    story.spawned("a#2");
    story.now -= Duration::from_millis(500);
    story.died("a");
    assert_eq!(numbers(&story), [2]);
    let effects = touch(&mut story);
    assert_eq!(effects, ["a| file changed: restarting", "a#2: AskToStop"]);
    let effects = story.died("a#2");
    assert!(effects[0].ends_with("; respawning now") && effects[1] == "a#2: Spawn", "{effects:?}");
    run_one(&mut story, 2, rolling(1));
    story.pass(1);
    assert_eq!((numbers(&story), story.outcome(Order::Reload, "a")), (vec![2], Outcome::Done));
}

#[test]
fn a_file_that_changes_while_instances_are_replaced_by_command_is_rolled_out() {
    let mut story = Story::new();
    story.run("a");
    story.pass(1);
    story.registry.roll_all(story.now);
    assert_eq!(story.effects().last().unwrap(), "a#2: Spawn");
    story.spawned("a#2");
    let effects = touch(&mut story);
    assert_eq!(
        effects,
        [
            ROLLS.replace("/1", ""),
            "a/2| stopping: a later reload replaces it".into(),
            "a#2: AskToStop".into()
        ]
    );
    assert_eq!(story.died("a#2").last().unwrap(), "a#2: Spawn");
    story.spawned("a#2");
    story.said("a#2", FromVassal::Running);
    assert_eq!(story.pass(1).last().unwrap(), "a: AskToStop");
    story.died("a");
    assert_eq!((numbers(&story), story.outcome(Order::Reload, "a")), (vec![2], Outcome::Done));
    // From then on as its file says.
    assert_eq!(touch(&mut story), ["a| file changed: reloading", "a#2: Reload"]);
}

#[test]
fn a_file_that_is_back_while_its_vassal_ends_has_one_whenever_its_address_is_known() {
    let found = |story: &mut Story| {
        story.event("a", Event::Found { version: None, has_old_address: false, owner: None })
    };
    for is_early in [true, false] {
        let mut story = Story::new();
        story.run("a");
        story.event("a", Event::Removed("file removed"));
        assert_eq!(found(&mut story), [find("a", "file is back")]);
        if is_early {
            story.no_address("a", "file is back");
            assert_eq!(story.died("a").last().unwrap(), "a: Spawn");
        } else {
            assert!(!story.died("a").contains(&"a: Remove".to_owned()));
            assert_eq!(story.no_address("a", "file is back").last().unwrap(), "a: Spawn");
        }
        story.spawned("a");
        // Gone again, and for good.
        story.event("a", Event::Removed("file removed"));
        found(&mut story);
        assert!(story.event("a", Event::Removed("file removed")).contains(&"a: ForgetAddress".to_owned()));
        assert_eq!(story.died("a").last().unwrap(), "a: Remove");
    }
    // The end of everything waits for no address.
    let mut story = Story::new();
    story.run("a");
    story.event("a", Event::Removed("file removed"));
    found(&mut story);
    story.registry.end(false, story.now);
    story.died("a");
    assert!(story.registry.is_empty());
}

#[test]
fn a_file_that_is_back_as_it_was_has_a_vassal_also_after_an_upgrade() {
    let mut story = Story::new();
    let version = FileVersion { modified: 5, ..FileVersion::default() };
    story.run("a");
    story.event("a", Event::Reading(version));
    story.event("a", Event::Removed("file removed"));
    story.upgrade();
    let found = Event::Found { version: Some(version), has_old_address: false, owner: None };
    assert_eq!(story.event("a", found), [find("a", "file is back")]);
    story.no_address("a", "file is back");
    assert_eq!(story.died("a").last().unwrap(), "a: Spawn");
}

#[test]
fn after_an_upgrade_no_app_goes_on_for_a_user_whose_file_it_is_not() {
    let mut story = Story::new();
    story.owner = Some(OWNER);
    run_set(&mut story, 1);
    // Another one would be started, and has read that the file has another owner.
    story.owner = Some(Owner { uid: 9, gid: 8 });
    let version = FileVersion { modified: 2, owner: story.owner, ..FileVersion::default() };
    read(&mut story, 2);
    story.upgrade();
    let found = Event::Found { version: Some(version), has_old_address: false, owner: Some(9) };
    assert_eq!(story.event("a", found), [find("a", "file is back")]);
    assert_eq!(story.no_address("a", "file is back"), ["a| file is back: reloading", "a: Reload"]);
}

#[test]
fn a_file_of_another_user_that_is_renamed_over_that_of_a_vassal_ends_its_app() {
    let mut story = Story::new();
    story.owner = Some(OWNER);
    run_set(&mut story, 1);
    let owner = Owner { uid: 9, gid: 8 };
    let version = FileVersion { owner: Some(owner), ..FileVersion::default() };
    // It has no vassal, as its user may not have one more.
    let renamed = Event::Renamed { from: file("b"), version, owner: Some(owner.uid) };
    assert_eq!(story.event("a", renamed), [find("a", "file changed")]);
    assert_eq!(story.no_address("a", "file changed"), ["a| file changed: reloading", "a: Reload"]);
}

#[test]
fn a_user_who_is_not_in_the_group_of_the_file_has_it_rolled_out_all_the_same() {
    let mut story = Story::new();
    (story.owner, story.tells) = (Some(Owner { gid: 99, ..OWNER }), true);
    run_set(&mut story, 2);
    let mut change = |owner| {
        story.event("a", Event::Touched("file changed", owner));
        story.no_address("a", "file changed")
    };
    assert_eq!(change(Some(Owner { gid: 99, ..OWNER })), [&ROLLS.replace("/1", ""), "a#3: Spawn"]);
    // It is another file with another group.
    assert!(!change(Some(OWNER)).contains(&ROLLS.replace("/1", "")));
    let mut story = Story::new();
    (story.owner, story.tells) = (Some(Owner { gid: 99, ..OWNER }), true);
    run_set(&mut story, 2);
    touch(&mut story);
    story.event("a#3", InstanceEvent::SpawnFailed(failed("it")));
    story.died("a");
    assert!(story.registry.proven(&id("a")).is_some());
}

#[test]
fn what_an_app_was_started_with_is_not_what_it_goes_back_to_once_it_has_read_another_file() {
    let mut story = Story::new();
    story.tells = true;
    // Each is told to read a file by which it is replaced from then on, and that changes once more.
    let recreate = Replication { is_rolling: false, ..rolling(2) };
    story.start("a");
    story.said("a", FromVassal::Replication(recreate));
    story.said("a", FromVassal::Running);
    run_one(&mut story, 2, recreate);
    for _ in 0..2 {
        touch(&mut story);
        ["a", "a#2"].iter().for_each(|name| drop(story.event(name, InstanceEvent::ReloadSent(None))));
    }
    // One dies, and comes back with the first of them.
    story.died("a#2");
    run_one(&mut story, 2, rolling(2));
    story.pass(1);
    let proven = |story: &Story| story.registry.vassal(&file("a")).unwrap().proven.is_some();
    assert!(proven(&story));
    story.said("a", FromVassal::Replication(rolling(2)));
    story.said("a", FromVassal::Reloaded);
    assert!(!proven(&story), "{:?}", story.registry.statuses(story.now)[0].line());
}

#[test]
fn instances_whose_user_has_joined_the_group_of_the_file_start_anew_as_such() {
    let mut story = Story::new();
    let owner = Owner { gid: 99, ..OWNER };
    (story.owner, story.tells) = (Some(owner), true);
    run_set(&mut story, 2);
    story.event("a", Event::Touched("file changed", Some(owner)));
    assert_eq!(story.no_address("a", "file changed").last().unwrap(), "a#3: Spawn");
    // It would be another owner's process beside those.
    let is_other = Event::Touched("other", Some(Owner { gid: u32::MAX, ..OWNER }));
    assert_eq!(story.event("a", is_other), [find("a", "other")]);
    story.event("a#3", InstanceEvent::Blocked("others are left"));
    let effects = story.no_address("a", "other");
    assert!(effects.contains(&"a#2: AskToStop".to_owned()), "{effects:?}");
    assert!(!effects.contains(&"a#3: Spawn".to_owned()), "{effects:?}");
}

#[test]
fn the_date_of_the_file_that_an_app_runs_with_is_that_of_when_it_was_read() {
    let reading = |story: &mut Story, modified| {
        story.event("a", Event::Reading(FileVersion { modified, ..FileVersion::default() }));
    };
    let runs_with = |story: &Story| story.registry.statuses(story.now)[0].runs_with();
    let mut story = Story::new();
    story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
    story.no_address("a", "");
    reading(&mut story, 1000);
    story.spawned("a");
    // Another one reads a newer file, before PID 1 has said what it has read.
    reading(&mut story, 2000);
    story.event("a", InstanceEvent::Transcript(b"all".to_vec()));
    story.said("a", FromVassal::Replication(rolling(1)));
    story.said("a", FromVassal::Running);
    story.pass(1);
    assert_eq!(story.registry.vassal(&file("a")).unwrap().proven.as_ref().unwrap().file.modified, 1000);
    touch(&mut story);
    story.event("a#2", InstanceEvent::SpawnFailed(failed("it")));
    assert_eq!(runs_with(&story), Some(1000));
    // So it is with what is started with it.
    story.died("a");
    story.spawned("a");
    assert_eq!(runs_with(&story), Some(1000));
    // And without any transcript, whatever was read for a reload that was refused.
    let mut story = Story::new();
    story.event("a", Event::Found { version: None, has_old_address: false, owner: None });
    story.no_address("a", "");
    reading(&mut story, 1000);
    story.spawned("a");
    story.said("a", FromVassal::Running);
    for (modified, answer, runs) in [
        (2000, FromVassal::Refused("no".to_owned()), Some(1000)),
        (3000, FromVassal::Reloaded, None),
        (4000, FromVassal::Refused("no".to_owned()), Some(3000)),
    ] {
        touch(&mut story);
        reading(&mut story, modified);
        story.event("a", InstanceEvent::ReloadSent(None));
        story.said("a", answer);
        assert_eq!(runs_with(&story), runs, "{modified}");
    }
}

#[test]
fn after_an_upgrade_a_user_has_no_more_instances_than_before() {
    let mut story = Story::new();
    story.registry.rules.max_per_owner = 4;
    story.owner = Some(OWNER);
    for (name, replicas) in [("b", 2), ("a", 3)] {
        story.event(name, Event::Found { version: None, has_old_address: false, owner: Some(OWNER.uid) });
        story.no_address(name, "");
        for name in [name, &format!("{name}#2")] {
            story.spawned(name);
            story.said(name, FromVassal::Replication(rolling(replicas)));
            story.said(name, FromVassal::Running);
        }
    }
    story.pass(1);
    // One of them wants one more.
    let count = |story: &Story| story.registry.statuses(story.now).len();
    assert_eq!(count(&story), 4);
    story.upgrade();
    assert_eq!((story.effects(), story.pass(10), count(&story)), (vec![], vec![], 4));
}

#[test]
fn what_is_lost_after_a_refused_roll_is_not_put_down_to_a_reload() {
    let mut story = Story::new();
    story.tells = true;
    run_set(&mut story, 2);
    for what in ["roll", "reload"] {
        if what == "roll" {
            story.registry.roll_all(story.now);
        } else {
            touch(&mut story);
        }
        story.effects();
        story.event("a#3", InstanceEvent::SpawnFailed(failed("it")));
        story.died("a");
        let line =
            format!("a/1| it was started with the file of before, as the {what} was refused: do it: no luck");
        assert_eq!(story.spawned("a")[1], line);
        story.said("a", FromVassal::Replication(rolling(2)));
        story.said("a", FromVassal::Running);
        story.pass(1);
    }
}
