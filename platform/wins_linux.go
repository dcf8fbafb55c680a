package platform

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
)

// sambaInclude is the file below the state directory that an administrator may
// include in smb.conf.
const sambaInclude = "samba-wins.conf"

// planWINS writes down the tunnels' WINS servers for Samba. Linux itself has no place
// for them.
func (h *linuxHost) planWINS(cfg Config, applied []change) ([]change, error) {
	var servers []netip.Addr
	for _, t := range cfg.Tunnels {
		servers = appendNew(servers, t.WINS...)
	}
	if len(servers) == 0 {
		return nil, nil
	}
	var content bytes.Buffer
	content.WriteString(resolvHeader + "wins server =")
	for _, server := range servers {
		fmt.Fprintf(&content, " %v", server.Unmap())
	}
	content.WriteByte('\n')
	c, err := h.planFile(filepath.Join(h.stateDir, sambaInclude), applied,
		func([]byte) []byte { return content.Bytes() })
	if err != nil {
		return nil, err
	}
	return []change{c}, nil
}
