# Completions of vassal-init for bash. Made by tests/docs/documents.rs from src/config/keys/.
# shellcheck shell=bash

_vassal_init() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    # In '--key=value' the equals sign is a word of its own.
    if [[ $word == '=' ]]; then
        word=''
    elif [[ $before == '=' ]]; then
        before=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    case $before in
        --binary-path|--cgroup-opt|--check|--include|--inherit|--ini|--mount-check|--mountpoint-check|--privileged-binary-patch|--seccomp|--unprivileged-binary-patch)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --cgroup|--chdir|--chroot|--umount-accepting|--umount-accepting-once|--umount-accepting1|--umount-accepting1-once|--umount-as-root|--umount-as-user|--umount-as-user-atexit|--umount-asap|--umount-in-jail|--umount-post-app|--umount-post-jail|--umount-pre-app|--umount-pre-jail)
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
            return
            ;;
        --uid)
            mapfile -t COMPREPLY < <(compgen -u -- "$word")
            return
            ;;
        --add-gid|--gid)
            mapfile -t COMPREPLY < <(compgen -g -- "$word")
            return
            ;;
        --reload-signal|--stop-signal)
            mapfile -t COMPREPLY < <(compgen -A signal -- "$word")
            return
            ;;
        --cap|--cap-drop)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'audit_control audit_read audit_write block_suspend bpf checkpoint_restore chown dac_override dac_read_search fowner fsetid ipc_lock ipc_owner kill lease linux_immutable mac_admin mac_override mknod net_admin net_bind_service net_broadcast net_raw perfmon setfcap setgid setpcap setuid sys_admin sys_boot sys_chroot sys_module sys_nice sys_pacct sys_ptrace sys_rawio sys_resource sys_time sys_tty_config syslog wake_alarm' -- "${word##*,}")
            return
            ;;
        --map-groups|--map-users)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'auto' -- "${word##*,}")
            return
            ;;
        --unshare)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'cgroup fs ipc net pid user uts' -- "${word##*,}")
            return
            ;;
        --reload-on)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'content touch' -- "${word##*,}")
            return
            ;;
        --mountpoint-lost)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'destroy hook: remount' -- "${word##*,}")
            return
            ;;
        --ready-check)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'exec: notify tcp://' -- "${word##*,}")
            return
            ;;
        --standard-error|--standard-output)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'file: inherit journal null' -- "${word##*,}")
            return
            ;;
        --proc)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'full safe' -- "${word##*,}")
            return
            ;;
        --reload-strategy)
            mapfile -t COMPREPLY < <(compgen -P "${word%"${word##*,}"}" -W 'recreate rolling' -- "${word##*,}")
            return
            ;;
        --help)
            mapfile -t COMPREPLY < <(compgen -W 'alarm append appendn call callint callintret callret cd chdir chmod chown chown2 chroot creat create exec exit fuse hostname log mkdir mount print putenv rmdir safeexec spinningfifo sticky umask umount unlink wait_for_dir wait_for_file wait_for_fs wait_for_socket write writefifo writen --add-gid --binary-path --call-accepting --call-accepting-once --call-accepting1 --call-accepting1-once --call-as-root --call-as-user --call-as-user-atexit --call-asap --call-in-jail --call-post-app --call-post-jail --call-pre-app --call-pre-jail --cap --cap-drop --cgroup --cgroup-opt --cgroup-optional --chdir --check --chmod-socket --chown-socket --chroot --clean-env --command --confine-hooks --cpu-max --env --exec-accepting --exec-accepting-once --exec-accepting1 --exec-accepting1-once --exec-as-root --exec-as-user --exec-as-user-atexit --exec-asap --exec-in-jail --exec-post-app --exec-post-jail --exec-pre-app --exec-pre-jail --gid --grace --help --hook-accepting --hook-accepting-once --hook-accepting1 --hook-accepting1-once --hook-as-root --hook-as-user --hook-as-user-atexit --hook-asap --hook-in-jail --hook-post-app --hook-post-jail --hook-pre-app --hook-pre-jail --hook-timeout --hostname --include --inherit --ini --json --keep-sockets --limit-as --limit-nofile --limit-nproc --listen --map-groups --map-users --memory-max --mount-accepting --mount-accepting-once --mount-accepting1 --mount-accepting1-once --mount-as-root --mount-as-user --mount-as-user-atexit --mount-asap --mount-check --mount-in-jail --mount-post-app --mount-post-jail --mount-pre-app --mount-pre-jail --mount-proc --mountpoint-check --mountpoint-check-interval --mountpoint-check-timeout --mountpoint-lost --mountpoint-timeout --nice --no-initgroups --no-new-privs --oom-score-adj --pids-max --pivot-root --pivot_root --privileged-binary-patch --privileged-binary-patch-arg --proc --ready-after --ready-check --ready-check-failures --ready-check-interval --ready-check-timeout --ready-fd --ready-timeout --reload-on --reload-signal --reload-strategy --replicas --reuse-port --rewrite --seccomp --set --set-ph --set-placeholder --show-config --standard-error --standard-output --stop-signal --stop-timeout --strict --uid --umask --umount-accepting --umount-accepting-once --umount-accepting1 --umount-accepting1-once --umount-as-root --umount-as-user --umount-as-user-atexit --umount-asap --umount-in-jail --umount-post-app --umount-post-jail --umount-pre-app --umount-pre-jail --unenv --unmount-timeout --unprivileged-binary-patch --unprivileged-binary-patch-arg --unshare --user --version' -- "$word")
            return
            ;;
        --call-accepting|--call-accepting-once|--call-accepting1|--call-accepting1-once|--call-as-root|--call-as-user|--call-as-user-atexit|--call-asap|--call-in-jail|--call-post-app|--call-post-jail|--call-pre-app|--call-pre-jail|--chmod-socket|--chown-socket|--command|--cpu-max|--env|--exec-accepting|--exec-accepting-once|--exec-accepting1|--exec-accepting1-once|--exec-as-root|--exec-as-user|--exec-as-user-atexit|--exec-asap|--exec-in-jail|--exec-post-app|--exec-post-jail|--exec-pre-app|--exec-pre-jail|--grace|--hook-accepting|--hook-accepting-once|--hook-accepting1|--hook-accepting1-once|--hook-as-root|--hook-as-user|--hook-as-user-atexit|--hook-asap|--hook-in-jail|--hook-post-app|--hook-post-jail|--hook-pre-app|--hook-pre-jail|--hook-timeout|--hostname|--limit-as|--limit-nofile|--limit-nproc|--listen|--memory-max|--mount-accepting|--mount-accepting-once|--mount-accepting1|--mount-accepting1-once|--mount-as-root|--mount-as-user|--mount-as-user-atexit|--mount-asap|--mount-in-jail|--mount-post-app|--mount-post-jail|--mount-pre-app|--mount-pre-jail|--mountpoint-check-interval|--mountpoint-check-timeout|--mountpoint-timeout|--nice|--oom-score-adj|--pids-max|--pivot-root|--pivot_root|--privileged-binary-patch-arg|--ready-after|--ready-check-failures|--ready-check-interval|--ready-check-timeout|--ready-fd|--ready-timeout|--replicas|--rewrite|--set|--set-ph|--set-placeholder|--stop-timeout|--umask|--unenv|--unmount-timeout|--unprivileged-binary-patch-arg|--user)
            mapfile -t COMPREPLY < <(true)
            return
            ;;
    esac

    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W '--add-gid --binary-path --call-accepting --call-accepting-once --call-accepting1 --call-accepting1-once --call-as-root --call-as-user --call-as-user-atexit --call-asap --call-in-jail --call-post-app --call-post-jail --call-pre-app --call-pre-jail --cap --cap-drop --cgroup --cgroup-opt --cgroup-optional --chdir --check --chmod-socket --chown-socket --chroot --clean-env --command --confine-hooks --cpu-max --env --exec-accepting --exec-accepting-once --exec-accepting1 --exec-accepting1-once --exec-as-root --exec-as-user --exec-as-user-atexit --exec-asap --exec-in-jail --exec-post-app --exec-post-jail --exec-pre-app --exec-pre-jail --gid --grace --help --hook-accepting --hook-accepting-once --hook-accepting1 --hook-accepting1-once --hook-as-root --hook-as-user --hook-as-user-atexit --hook-asap --hook-in-jail --hook-post-app --hook-post-jail --hook-pre-app --hook-pre-jail --hook-timeout --hostname --include --inherit --ini --json --keep-sockets --limit-as --limit-nofile --limit-nproc --listen --map-groups --map-users --memory-max --mount-accepting --mount-accepting-once --mount-accepting1 --mount-accepting1-once --mount-as-root --mount-as-user --mount-as-user-atexit --mount-asap --mount-check --mount-in-jail --mount-post-app --mount-post-jail --mount-pre-app --mount-pre-jail --mount-proc --mountpoint-check --mountpoint-check-interval --mountpoint-check-timeout --mountpoint-lost --mountpoint-timeout --nice --no-initgroups --no-new-privs --oom-score-adj --pids-max --pivot-root --pivot_root --privileged-binary-patch --privileged-binary-patch-arg --proc --ready-after --ready-check --ready-check-failures --ready-check-interval --ready-check-timeout --ready-fd --ready-timeout --reload-on --reload-signal --reload-strategy --replicas --reuse-port --rewrite --seccomp --set --set-ph --set-placeholder --show-config --standard-error --standard-output --stop-signal --stop-timeout --strict --uid --umask --umount-accepting --umount-accepting-once --umount-accepting1 --umount-accepting1-once --umount-as-root --umount-as-user --umount-as-user-atexit --umount-asap --umount-in-jail --umount-post-app --umount-post-jail --umount-pre-app --umount-pre-jail --unenv --unmount-timeout --unprivileged-binary-patch --unprivileged-binary-patch-arg --unshare --user --version' -- "$word")
    else
        mapfile -t COMPREPLY < <(
            compgen -f -- "$word"
        )
    fi
}

complete -o filenames -F _vassal_init vassal-init
