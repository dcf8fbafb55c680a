package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fallbacks says which tests prove what of the path of packets: each way round what a
// system, a link or a gateway does not have, and that nothing is kept waiting. A test is
// PACKAGE.NAME, or PACKAGE.NAME/CASE.
var fallbacks = []struct {
	what  string
	tests []string
}{
	{"a segment is larger than the path's MTU", []string{
		"platform.TestBatchTooLarge", "platform.TestMacBatches/too much at once", "platform.TestMacBatchesFail",
		"platform.TestWinBatches/runs are too large", "platform.TestWinBatchesFail", "ike.TestLostRuns", "ike.TestPathShrinks",
		"ike.TestPathMTU", "ike.TestSmallLink", "ike.TestLargeMessages",
	}},
	{"checksums are not offloaded", []string{
		"platform.TestBatches/no checksum offload", "platform.TestBatches/runs are refused", "tun.TestModes/no offload", "tun.TestModes/checksums only",
	}},
	{"the kernel has no GRO or USO", []string{
		"platform.TestBatches/runs are not received", "platform.TestWithoutSegments", "platform.TestEachByItself", "tun.TestModes/no UDP", "tun.TestModes/UDP together is refused",
		"tun.TestModes/library", "tun.TestCoalesceWithoutDatagrams", "tun.TestDatagramsToHost", "tun.TestLibrary",
	}},
	{"macOS has no calls for many datagrams, or refuses them", []string{
		"platform.TestMacBatches/the call is not there", "platform.TestMacBatches/the call is forbidden", "platform.TestMacBatches/no addresses",
		"platform.TestMacBatches/in parts", "platform.TestSoundBatches", "platform.TestMacTrial", "platform.TestMacSocketSends",
	}},
	{"Windows has no runs of datagrams, or refuses them", []string{
		"platform.TestWinBatches/the option is unknown", "platform.TestWinBatches/the message is unknown", "platform.TestOrdinaryBatches", "ike.TestBatches",
	}},
	{"the gateway sends single datagrams in bursts", []string{
		"platform.TestBatchesMany", "platform.TestPauses", "platform.TestPause", "ike.TestReadsOfRuns", "ike.FuzzRuns", "ike.TestOverUDP",
	}},
	{"a port is closed (ECONNREFUSED)", []string{"platform.TestBatchAfterRefusal", "ike.TestSocketErrorIsAHint"}},
	{"a large packet has tiny segments", []string{"tun.TestSplit", "tun.TestModes", "ike.TestTinySegments", "ike.TestRunShapes"}},
	{"IPv6 inside and outside", []string{"tun.TestModes", "tun.TestSplit", "tun.FuzzCoalesce", "platform.TestBatches", "platform.TestMacBatches", "ike.FuzzRuns"}},
	{"inner fragments", []string{"tun.TestModes", "tun.TestCoalesceFragments", "tun.FuzzFragments", "daemon.TestPumpKeepsWithinThePath", "daemon.TestPumpWithStacks"}},
	{"packets for several SAs in one batch, an SA that changes in its midst", []string{"ike.FuzzRuns", "ike.TestPathInMidBatch", "ike.TestExpandedBatch", "ike.TestRemoveAmidBatch", "ike.TestRemoveWhilePackets"}},
	{"inner checksums are verified before packets are put together", []string{"tun.TestCoalesceVerifies", "tun.TestCoalesceDatagrams/a wrong checksum", "tun.FuzzCoalesce"}},
	{"batches, compared with packet by packet", []string{"daemon.FuzzPath", "ike.FuzzRuns", "tun.FuzzCoalesce", "tun.FuzzSegments", "tun.TestSplit"}},
	{"nothing is allocated per packet", []string{
		"platform.TestBatchAllocations", "platform.TestESPAllocations", "platform.TestMacBatchesAllocations", "platform.TestWinBatchesAllocations",
		"tun.TestOffloadAllocations", "tun.TestReadAheadAllocatesNothingPerPacket", "ike.TestNoAllocations", "ike.TestNoAllocationsPlain", "daemon.TestPumpAllocatesNothingPerPacket",
	}},
	{"the library gives one packet with a call (macOS, Windows)", []string{"tun.TestReadAhead", "tun.TestReadAheadFails", "tun.TestReadAheadCloses", "tun.TestReadAheadOwners", "daemon.TestPumpGathers"}},
	{"a packet never waits for a batch, but up to 0.3 ms amid a dense stream of large single datagrams", []string{
		"platform.TestPauses", "platform.TestPause",
		"tun.TestReadDoesNotWait", "tun.TestReadAheadDoesNotWait", "tun.TestReadAheadAlone", "ike.TestBatches", "daemon.TestPumpFlushes", "daemon.TestPumpFlushesTheSessionBefore",
	}},
	{"small packets are not starved: what is read at once is bounded", []string{"tun.TestReadDoesNotWait", "tun.TestReadAhead", "tun.TestReadAheadIsBounded", "daemon.TestPumpFlushes"}},
	{"no polling, one timer for all that a session has to do", []string{"ike.TestIdle", "ike.TestLastPackets", "lab.TestIdleCost"}},
}

// TestFallbacksAreTested: there are all these tests.
func TestFallbacksAreTested(t *testing.T) {
	folders := map[string]string{"platform": "../../platform", "tun": "../../tun", "ike": "../../ike", "daemon": ".", "lab": "../../test/lab"}
	texts := map[string]string{}
	for name, folder := range folders {
		files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", folder, len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(file) != "fallbacks_test.go" {
				texts[name] += string(text)
			}
		}
	}
	for _, f := range fallbacks {
		for _, test := range f.tests {
			name, sub, _ := strings.Cut(test, "/")
			folder, name, _ := strings.Cut(name, ".")
			if text := texts[folder]; !strings.Contains(text, "func "+name+"(") || !strings.Contains(text, `"`+sub) {
				t.Errorf("%s: there is no %s", f.what, test)
			}
		}
	}
}
