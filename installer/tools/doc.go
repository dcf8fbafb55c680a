// Package tools is a module of its own: what builds packages, pinned with all that it
// needs, and nothing of it in the programs' go.mod. "go install tool" builds it.
//
//   - github.com/goreleaser/nfpm/v2 (MIT) writes deb and rpm.
//   - github.com/CycloneDX/cyclonedx-gomod (Apache-2.0) writes the bill of materials.
package tools
