// Print the project of Compose files as JSON, loaded by the library that Compose v2 is built on.
//
//	compose-v2 [--profile=NAME]... [FILE]...
//
// Like `docker compose --project-directory . -f FILE... config`: paths and .env are those of the current folder.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	var files, profiles []string
	for _, argument := range os.Args[1:] {
		if profile, found := strings.CutPrefix(argument, "--profile="); found {
			profiles = append(profiles, profile)
		} else {
			files = append(files, argument)
		}
	}
	text, err := config(files, profiles)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(string(text))
}

func config(files, profiles []string) ([]byte, error) {
	options, err := cli.NewProjectOptions(files,
		cli.WithWorkingDirectory("."),
		cli.WithOsEnv,
		cli.WithEnvFiles(),
		cli.WithDotEnv,
		cli.WithConfigFileEnv,
		cli.WithDefaultConfigPath,
		cli.WithDefaultProfiles(profiles...),
	)
	if err != nil {
		return nil, err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return nil, err
	}
	return project.MarshalJSON()
}
