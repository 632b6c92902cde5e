# shellcheck shell=bash
# Common to all scripts: sourced, never run. Expects `set -euo pipefail` in the caller.

# shellcheck disable=SC2034 # used by the scripts that source this file
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DIST=${VASSAL_DIST:-$REPO/dist}
# Where scripts/make-rootfs keeps what it fetched, for the scripts that go on a stage.
ROOTFS_CACHE=$REPO/target/rootfs
MUSL=x86_64-unknown-linux-musl
# The small programs of scripts/bench.
BENCH_PROGRAMS=$REPO/target/bench
# Debian's musl-dev for arm64, unpacked (scripts/setup aarch64).
MUSL_ARM64=$REPO/target/musl-arm64
# Not the `python3` of PATH: a pyenv shim costs 50 ms a start and may be any version.
PYTHON=/usr/bin/python3

# What is built or staged is used by other users as well, whatever the caller's umask is.
umask 022

# One line of progress, on stderr, so that stdout stays free for results.
say() {
    printf '==> %s\n' "$*" >&2
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Prints the comment block at the top of the calling script: the usage is written once.
usage() {
    awk 'NR == 1 { next } /^#/ { sub(/^# ?/, ""); print; next } { exit }' "$0"
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "needs root: it $1"
}

# need_namespaces WHAT: mount and pid namespaces, as root or in a user namespace of one's own. WHAT is what
# they are for.
need_namespaces() {
    local why
    why=$(why_no_namespaces) || return 0
    die "cannot $1: $why"
}

# Prints why there are no mount namespaces to be had, and how to get them; status 1 if there are.
why_no_namespaces() {
    local clone=/proc/sys/kernel/unprivileged_userns_clone limit=/proc/sys/user/max_user_namespaces
    local apparmor=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
    ! unshare --mount true 2>/dev/null || return 1
    ! unshare --user --map-root-user --mount true 2>/dev/null || return 1
    if [ "$(cat $clone 2>/dev/null)" = 0 ]; then
        echo "only root may make user namespaces here; as root: sysctl kernel.unprivileged_userns_clone=1"
    elif [ "$(cat $limit 2>/dev/null)" = 0 ]; then
        echo "user namespaces are switched off; as root: sysctl user.max_user_namespaces=10000"
    elif [ "$(cat $apparmor 2>/dev/null)" = 1 ]; then
        echo "AppArmor lets nobody use user namespaces; as root: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    else
        echo "no namespaces are allowed; run this as root, a container with --privileged and --device /dev/fuse"
    fi
}

# user_options: what unshare(1) is to make a user namespace with, one word a line; nothing where root needs
# none. All IDs that we may have are there if newuidmap and a range for us are.
user_options() {
    ! unshare --mount true 2>/dev/null || return 0
    printf '%s\n' --user --map-root-user
    ! unshare --user --map-root-user --map-auto true 2>/dev/null || echo --map-auto
}

# has_ids: whether there are other users than root here: not in a user namespace with one ID.
has_ids() {
    [ "$(awk '{ ids += $3 } END { printf "%d", ids }' /proc/self/uid_map)" -gt 1 ]
}

# git_here ARGUMENT...: git in this repository, also where the files are another user's.
git_here() {
    git -C "$REPO" -c safe.directory='*' "$@"
}

# The version in Cargo.toml.
project_version() {
    sed -n 's/^version = "\(.*\)"$/\1/p' "$REPO/Cargo.toml"
}

# The commit that is there, by 12 digits, and a plus where files were changed since. Nothing where that is not
# known: without git, and in an archive that is not git's (scripts/commit has the commit in those).
project_commit() {
    local commit changed=
    if [ -e "$REPO/.git" ]; then
        commit=$(git_here rev-parse HEAD 2>/dev/null) || return 0
        git_here diff --quiet HEAD -- || changed=+
    else
        commit=$(cat "$REPO/scripts/commit")
    fi
    [[ ! $commit =~ ^[0-9a-f]{40}$ ]] || echo "${commit:0:12}$changed"
}

# `has_target rustc TRIPLE`: does that compiler come with a std for the target?
has_target() {
    local dir
    dir=$("$1" --print target-libdir --target "$2" 2>/dev/null) || return 1
    compgen -G "$dir/libstd-*.rlib" >/dev/null
}

# Can Debian's compiler build std for musl itself? Asks it, since the flag came with one release or another.
debian_rust_works() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -x /usr/bin/musl-gcc ] || return 1
    [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ] || return 1
    RUSTC_BOOTSTRAP=1 /usr/bin/rustc -Zunstable-options -Cpanic=immediate-abort --print cfg >/dev/null 2>&1
}

# in_namespaces UNSHARE_OPTION... COMMAND: runs COMMAND in new mount and pid namespaces, as root of a user
# namespace where we are not root, and ends the whole of it when we are told to end, or are killed. Job
# control gives it a process group of its own, so that Ctrl-C comes to us alone.
in_namespaces() {
    local child status=0 user
    mapfile -t user < <(user_options)
    set -m
    setpriv --pdeathsig KILL \
        unshare "${user[@]}" --mount --propagation private --pid --fork --kill-child=KILL "$@" &
    set +m
    child=$!
    trap 'kill -KILL $child 2>/dev/null; say "stopped; its processes and mounts went with it"; exit 130' \
        INT TERM HUP
    wait "$child" || status=$?
    trap - INT TERM HUP
    return "$status"
}

# make_run_directory PARENT: RUN, a directory there that goes with this script. Scripts that were killed have
# left theirs: those go now. Each is locked by its script and what that has started. The caller has a lock on
# PARENT, so no script has made its own and not locked it yet.
make_run_directory() {
    local left
    for left in "$1"/run.*; do
        [ ! -d "$left" ] || flock --nonblock "$left" rm -rf "$left" || continue
    done
    RUN=$(mktemp -d "$1/run.XXXXXX")
    trap 'rm -rf "$RUN"' EXIT
    exec 8<"$RUN"
    flock 8
}

# make_cgroups NAME: CGROUPS, one in every tree that has controllers, which a stage takes for the root of that
# tree (own_cgroups). Version 2 has one tree, and what the machine has not enabled in it is not there.
make_cgroups() {
    local tree
    CGROUPS=()
    while read -r tree; do
        make_cgroup "$tree" "$tree/vassal-$1-$$"
        CGROUPS+=("$tree/vassal-$1-$$")
    done < <(cgroup_trees)
    [ ${#CGROUPS[@]} -gt 0 ] || die "no cgroups are mounted below /sys/fs/cgroup"
}

# Beside trees of version 1, one of version 2 has no controllers that an engine looks for. Those that are
# mounted over are in the list, too.
cgroup_trees() {
    awk '($3 == "cgroup" || ($3 == "cgroup2" && $2 == "/sys/fs/cgroup")) && !seen[$2]++ { print $2 }' \
        /proc/mounts
}

# make_cgroup TREE CGROUP
make_cgroup() {
    local file
    mkdir "$2"
    # Without them no process can be moved there.
    for file in cpuset.cpus cpuset.mems; do
        if [ -e "$1/cgroup.clone_children" ] && [ -e "$2/$file" ]; then
            cat "$1/$file" >"$2/$file"
        fi
    done
}

# Those of make_cgroups, with all that was made in them; status 1 if a process keeps one of them.
remove_cgroups() {
    local cgroup status=0 deadline=$((SECONDS + 30))
    for cgroup in "${CGROUPS[@]}"; do
        # The kernel takes a moment to forget the last process.
        until find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; do
            [ "$SECONDS" -lt "$deadline" ] || { say "$cgroup is left" && status=1 && break; }
            sleep 0.1
        done
    done
    return "$status"
}

# remember_machine: how the machine is, for expect_same_machine.
remember_machine() {
    MACHINE=$(machine)
}

# expect_same_machine: fails where something was changed that nobody puts right by ending what was started.
expect_same_machine() {
    local change
    change=$(diff <(printf '%s\n' "$MACHINE") <(machine)) || die "the machine is not as it was: $change"
}

# What programs that make containers and guests change on a machine, unless they are kept from it. The three
# sysctls that the kernel changes itself are left out: it counts hung_task_warnings down.
machine() {
    find /proc/sys -type f -perm -u=w ! -name ns_last_pid ! -name perf_event_max_sample_rate \
        ! -name hung_task_warnings -exec grep -sH '' {} + | sort
    cut -d ' ' -f 3- /proc/self/mountinfo | sort
    cut -d ' ' -f 1 /proc/modules 2>/dev/null | sort
    ls /sys/class/net
    ls -d /{etc,opt,run,var/lib,var/log}/{cni,containerd,containers,crun,docker,kubelet,kubernetes} \
        /{run,var/lib}/{libpod,netns,runc,runsc} /var/log/pods 2>/dev/null || true
}

# On a stage that is in cgroups of its own, and in a namespace of them: the same trees, each with our cgroup
# as its root.
own_cgroups() {
    local trees tree
    # Those that are mounted over are in the list, too.
    mapfile -t trees < <(awk '$3 == "cgroup" && !seen[$2]++ { print $2 " " $4 }' /proc/mounts)
    if [ ${#trees[@]} -eq 0 ]; then
        # The kernel refuses the same filesystem on top.
        umount -l /sys/fs/cgroup
        mount -t cgroup2 cgroup /sys/fs/cgroup
        return
    fi
    mount -t tmpfs -o mode=755 cgroups /sys/fs/cgroup
    for tree in "${trees[@]}"; do
        mkdir "${tree%% *}"
        # The options name the controllers, beside those of every mount.
        mount -t cgroup -o "$(controllers "${tree#* }")" cgroup "${tree%% *}"
    done
}

# controllers OPTIONS: those of a mount that say which tree it is.
controllers() {
    local option options=()
    for option in ${1//,/ }; do
        case $option in
            rw | ro | nosuid | nodev | noexec | relatime) ;;
            name=*) options+=(none "$option") ;;
            *) options+=("$option") ;;
        esac
    done
    local IFS=,
    echo "${options[*]}"
}

# This machine's own Debian release.
own_suite() {
    local suite
    suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-}") || suite=
    echo "${suite:-bookworm}"
}

# add_account ETC NAME: a user, and a group of that name, on a stage. By hand: useradd also writes to
# /var/log, which is the machine's own.
add_account() {
    local etc=$1 name=$2 id=1001
    ! grep -q "^$name:" "$etc/passwd" || return 0
    while grep -qE "^[^:]*:[^:]*:$id:" "$etc/passwd" "$etc/group"; do
        id=$((id + 1))
    done
    echo "$name:x:$id:$id::/nonexistent:/usr/sbin/nologin" >>"$etc/passwd"
    grep -q "^$name:" "$etc/group" || echo "$name:x:$id:" >>"$etc/group"
}

# `make_file PATH`: writes stdin to PATH, with the directories above it.
make_file() {
    mkdir -p "$(dirname "$1")"
    cat >"$1"
}

# The tutorial's first example, word for word but for the line `plugin = psgi`: Debian ships psgi as a plugin.
# Only for a stage: it writes to /etc/uwsgi and /var/www.
write_tutorial() {
    write_zip /var/www/app001.zip
    write_emperor_ini /etc/uwsgi/emperor.ini /etc/uwsgi/vassals
    write_vassal_ini /etc/uwsgi/vassals/app001.ini 9090
}

# write_emperor_ini FILE VASSALS_DIRECTORY
write_emperor_ini() {
    mkdir -p "$2"
    make_file "$1" <<INI
[uwsgi]
emperor = $2
emperor-use-clone = fs,pid
INI
}

# write_vassal_ini FILE PORT
write_vassal_ini() {
    make_file "$1" <<INI
[uwsgi]
uid = user001
gid = user001

; mount FUSE filesystem under /app (but only if it is not a reload)
if-not-reload =
  exec-as-user = fuse-zip -r /var/www/app001.zip /app
endif =

http-socket = :$2
plugin = psgi
psgi = /app/myapp.pl

mountpoint-check = /app
INI
}

# write_zip FILE: the app, a PSGI one. It reads its page from the zip for each request, so that a 200 says
# that the filesystem answers, not only that uWSGI does.
write_zip() {
    local source
    source=$(mktemp -d)
    make_file "$source/myapp.pl" <<'PERL'
sub {
    open(my $page, '<', '/app/page.html') or return [500, ['Content-Type' => 'text/plain'], ["page.html: $!\n"]];
    my $text = join('', <$page>);
    return [200, ['Content-Type' => 'text/html'], [$text]];
}
PERL
    make_file "$source/page.html" <<<'<p>Hello from inside app001.zip</p>'
    mkdir -p "$(dirname "$1")"
    (cd "$source" && zip -q "$1" myapp.pl page.html)
    rm -r "$source"
}

# What the tutorial's second example needs of the machine: a shared `/`, and the tree under the name that its
# file has. Only for a stage, with the cache filled before (a stage has no network).
# make_tutorial_tree USER...
make_tutorial_tree() {
    local user options=()
    for user; do
        grep -q "^$user:" /etc/passwd || add_account /etc "$user"
        options+=(--user "$user")
    done
    mount --make-rshared /
    "$REPO/scripts/make-rootfs" "${options[@]}" --cache "$ROOTFS_CACHE" /ns "precise=$(own_suite)"
    write_cow_app /ns/precise/var/www
}

# write_cow_app DIRECTORY: a page out of the tree, read anew for each request; a POST leaves its text in
# /tmp/note.
write_cow_app() {
    make_file "$1/page.txt" <<<'Hello from the tree that all share'
    make_file "$1/myapp.pl" <<'PERL'
sub {
    my $env = shift;
    my $who = getpwuid($<);
    if ($env->{REQUEST_METHOD} eq 'POST') {
        $env->{'psgi.input'}->read(my $text, $env->{CONTENT_LENGTH} || 0);
        open(my $note, '>', '/tmp/note') or return [500, ['Content-Type' => 'text/plain'], ["/tmp/note: $!\n"]];
        print $note $text;
        close($note) or return [500, ['Content-Type' => 'text/plain'], ["/tmp/note: $!\n"]];
        return [200, ['Content-Type' => 'text/plain'], ["$who: written to /tmp/note\n"]];
    }
    open(my $page, '<', '/var/www/page.txt') or return [500, ['Content-Type' => 'text/plain'], ["page.txt: $!\n"]];
    my @answer = ("$who: ", <$page>);
    if (open(my $note, '<', '/tmp/note')) {
        push @answer, "$who: /tmp/note says: ", <$note>;
    }
    return [200, ['Content-Type' => 'text/plain'], \@answer];
}
PERL
}

# write_cow_ini FILE USER PORT: the tutorial's second file. For user001 and 9090, word for word.
write_cow_ini() {
    make_file "$1" <<INI
[uwsgi]
; choose the approach that suits you best (plugins loading)
; this will be used for the first run ...
plugins-dir = /ns/precise/opt/uwsgi/plugins
; and this after a reload (where our rootfs is already /ns/precise)
plugins-dir = /opt/uwsgi/plugins
plugin = psgi

; drop privileges
uid = $2
gid = $2

; chdir to / to avoid problems after pivot_root
hook-pre-jail = callret:chdir /
; run unionfs-fuse using chroot (it is required to avoid deadlocks) and cow (we mount it under /ufs)
hook-pre-jail = exec:unionfs-fuse -ocow,chroot=/ns,default_permissions,allow_other /precise=RO:/cow/%(uid)=RW /ufs

; change the rootfs to the unionfs one
; the .old_root directory is where the old rootfs is still available
pivot_root = /ufs /ufs/.old_root

; now we are in the new rootfs and in 'as-root' phase
; remount the /proc filesystem
hook-as-root = mount:proc none /proc
; bind mount the original /dev in the new rootfs (simplifies things a lot)
hook-as-root = mount:none /.old_root/dev /dev bind
; recursively un-mount the old rootfs
hook-as-root = umount:/.old_root rec,detach

; common bind
http-socket = :$3

; load the app (fix it according to your requirements)
psgi = /var/www/myapp.pl

; constantly check for the rootfs (seems odd but is is very useful)
mountpoint-check = /
INI
}
