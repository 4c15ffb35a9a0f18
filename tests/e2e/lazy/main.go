// A lazy puller as stargz's snapshotter is one: its own code resolves a blob of a registry and reads pieces
// of it. Usage: lazy HOST REPOSITORY DIGEST OFFSET:LENGTH…; the bytes go to standard output.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/pkg/reference"
	"github.com/containerd/stargz-snapshotter/cache"
	"github.com/containerd/stargz-snapshotter/fs/config"
	"github.com/containerd/stargz-snapshotter/fs/remote"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func run(host, repository, name string, pieces []string) error {
	hosts := func(reference.Spec) ([]docker.RegistryHost, error) {
		return []docker.RegistryHost{{Client: http.DefaultClient, Host: host, Scheme: "http", Path: "/v2",
			Capabilities: docker.HostCapabilityPull | docker.HostCapabilityResolve}}, nil
	}
	http.DefaultClient.Transport = http.DefaultTransport
	blob, err := remote.NewResolver(config.BlobConfig{}, nil).Resolve(context.Background(), hosts,
		reference.Spec{Locator: host + "/" + repository},
		ocispec.Descriptor{Digest: digest.Digest(name)}, cache.NewMemoryCache())
	if err != nil {
		return err
	}
	defer blob.Close()
	for _, piece := range pieces {
		var offset, length int64
		if _, err := fmt.Sscanf(piece, "%d:%d", &offset, &length); err != nil {
			return err
		}
		p := make([]byte, length)
		n, err := blob.ReadAt(p, offset)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(p[:n]); err != nil {
			return err
		}
	}
	return blob.Check()
}

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
