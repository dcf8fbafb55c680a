package platform

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
)

// powerMessage is what IOKit tells of sleep (IORegisterForSystemPower), as it stands in
// memory on amd64 and arm64, without a gap: a Mach message with the right to one port
// (mach/message.h), an OSNotificationHeader64 and an IOServiceInterestContent64
// (OSMessageNotification.h, packed to four bytes).
type powerMessage struct {
	Bits, Size, Remote, Local, Voucher, ID uint32 // mach_msg_header_t; Size in bytes
	Descriptors                            uint32 // mach_msg_body_t
	Port                                   [11]byte
	PortKind                               uint8 // mach_msg_port_descriptor_t ends with it
	ContentSize, Kind                      uint32
	Reference                              [8]uint64 // what was given at registration
	News                                   uint32
	Argument                               uint64
}

const (
	powerMessageSize = 124 // bytes, the trailer that mach_msg_receive adds aside
	// powerBuffer has room for the longest message of IOKit's notifications, which may
	// have 64 bytes of arguments, and for the longest trailer.
	powerBuffer = 1024

	machHeaderSize     = 24      // bytes of a mach_msg_header_t
	machComplex        = 1 << 31 // MACH_MSGH_BITS_COMPLEX
	machMakeSend       = 20      // MACH_MSG_TYPE_MAKE_SEND
	machPortDescriptor = 0       // MACH_MSG_PORT_DESCRIPTOR
	machNotification   = 53      // kOSNotificationMessageID
	ioServiceMessage   = 160     // kIOServiceMessageNotificationType
	ioKindMask         = 0xfff   // kIOKitNoticationTypeMask
)

// What is told (IOMessage.h).
const (
	powerCanSleep     = 0xe0000270 // kIOMessageCanSystemSleep
	powerWillSleep    = 0xe0000280 // kIOMessageSystemWillSleep
	powerWillNotSleep = 0xe0000290 // kIOMessageSystemWillNotSleep
	powerHasPoweredOn = 0xe0000300 // kIOMessageSystemHasPoweredOn
	powerWillPowerOn  = 0xe0000320 // kIOMessageSystemWillPowerOn
)

// powerAction is what follows from a message.
type powerAction struct {
	// answer: the system waits, for half a minute at most, until all who are registered
	// have allowed it.
	answer bool
	// tells: it is news, of sleep or of a wake.
	tells, asleep bool
}

// powerActions has all messages that those who are registered get. When the system is about
// to power on, most devices are not there yet; when a sleep is called off, nothing was told.
var powerActions = map[uint32]powerAction{
	powerCanSleep:     {answer: true},
	powerWillSleep:    {answer: true, tells: true, asleep: true},
	powerWillNotSleep: {},
	powerWillPowerOn:  {},
	powerHasPoweredOn: {tells: true},
}

// parsePower reads a message, which may have anything behind it, and gives its news and the
// argument by which it is answered. One of any other form is an error.
func parsePower(message []byte) (news uint32, argument uint64, err error) {
	var m powerMessage
	if _, err := binary.Decode(message, binary.LittleEndian, &m); err != nil {
		return 0, 0, fmt.Errorf("a message of %d bytes: %w", len(message), err)
	}
	if m.Size != powerMessageSize || m.ID != machNotification || m.Bits&machComplex == 0 ||
		m.Descriptors != 1 || m.PortKind != machPortDescriptor || m.Kind&ioKindMask != ioServiceMessage {
		return 0, 0, fmt.Errorf("a message %d of %d bytes and the kind %d", m.ID, m.Size, m.Kind)
	}
	return m.News, m.Argument, nil
}

// receiveHeader is what mach_msg_receive is given: room for so many bytes, and a port.
func receiveHeader(port uint32, size int) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint32(b, port)
	return append(b, make([]byte, machHeaderSize-len(b))...)
}

// endMessage is one to a port of this process, whose identifier is 0, which is nobody's.
func endMessage(port uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, machMakeSend)
	b = binary.LittleEndian.AppendUint32(b, machHeaderSize)
	b = binary.LittleEndian.AppendUint32(b, port)
	return append(b, make([]byte, machHeaderSize-len(b))...)
}

// powerPort is where IOKit tells of sleep.
type powerPort struct {
	// receive waits for a message.
	receive func(message []byte) error
	// release gives back the rights to ports that came with a message.
	release func(message []byte)
	// allow answers the message that had this argument.
	allow func(argument uint64) error
	// end has receive get a message of another form, unless close was called.
	end   func()
	close func()
}

// powerNews gives what the system tells of sleep, until ctx ends. It is closed if what the
// system tells is of a form that nobody here knows: then nobody is registered any more, for
// whom the computer would wait before it sleeps.
func powerNews(ctx context.Context, log *slog.Logger, open func() (*powerPort, error)) (<-chan bool, error) {
	port, err := open()
	if err != nil {
		return nil, err
	}
	told, tell := newSleeps()
	stop := context.AfterFunc(ctx, port.end)
	go func() {
		defer close(told)
		err := readPower(log, port, tell)
		stop()
		port.close()
		if ctx.Err() == nil {
			log.Warn("network: what the system tells of sleep is not understood, so the clocks tell", "error", err)
		}
	}()
	return told, nil
}

// readPower answers messages before anything else, and tells what is news. It ends with the
// first that it does not know the form of.
func readPower(log *slog.Logger, port *powerPort, tell func(asleep bool)) error {
	message := make([]byte, powerBuffer)
	for {
		if err := port.receive(message); err != nil {
			return err
		}
		news, argument, err := parsePower(message)
		action := powerActions[news]
		if err == nil && action.answer {
			if err := port.allow(argument); err != nil {
				log.Warn("network: the computer may wait for us before it sleeps", "error", err)
			}
		}
		port.release(message)
		if err != nil {
			return err
		}
		if action.tells {
			tell(action.asleep)
		}
	}
}
