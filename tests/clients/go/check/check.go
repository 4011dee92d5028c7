// Package check has named checks, whose outcomes are printed and compared between brokers: check.py for Go.
package check

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"reflect"
	"strings"
	"time"
)

var run = fmt.Sprintf("%08x", rand.New(rand.NewSource(time.Now().UnixNano())).Uint32())

// Name makes a name of this run: programs may share a broker, and may be run again.
func Name(what string) string { return what + "-" + run }

// Run runs the check at once and prints `name<TAB>outcome`: "ok", or what was seen instead.
func Run(what string, check func() error) {
	began := time.Now()
	outcome := "ok"
	if err := try(check); err != nil {
		outcome = strings.ReplaceAll(strings.ReplaceAll(err.Error(), "\n", " "), run, "RUN")
	}
	fmt.Printf("%s\t%s\n", what, outcome)
	fmt.Fprintf(os.Stderr, "%s took %s\n", what, time.Since(began).Round(time.Millisecond))
}

func try(check func() error) (err error) {
	defer func() {
		if failed := recover(); failed != nil {
			err = fmt.Errorf("panic: %v", failed)
		}
	}()
	return check()
}

// Must ends the check with the error.
func Must(err error) {
	if err != nil {
		panic(err)
	}
}

// Equal ends the check where they differ.
func Equal(seen, wanted any) {
	if !reflect.DeepEqual(seen, wanted) {
		panic(fmt.Errorf("%v instead of %v", seen, wanted))
	}
}

// Is ends the check unless the error is the one wanted.
func Is(seen, wanted error) {
	if !errors.Is(seen, wanted) {
		panic(fmt.Errorf("%v instead of %v", seen, wanted))
	}
}

// Until waits for a condition, with a deadline.
func Until(what string, condition func() bool) {
	deadline := time.Now().Add(time.Minute)
	for !condition() {
		if time.Now().After(deadline) {
			panic(fmt.Errorf("%s: not within the deadline", what))
		}
		time.Sleep(50 * time.Millisecond)
	}
}
