//go:build !linux

package main

import "syscall"

// childAttributes: a group of its own, so that Ctrl-C reaches only the supervisor.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
