package main

import "syscall"

// childAttributes: a group of its own, so that Ctrl-C reaches only the supervisor, and an end with it whatever ends it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
