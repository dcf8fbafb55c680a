#include "textflag.h"

// AES-CBC (FIPS 197, SP 800-38A §6.2) by the AES instructions. Round keys lie one after
// the other from *keys on, sixteen bytes each, rounds+1 of them. IV and blocks lie one
// after the other, too; n counts the bytes of the blocks, a multiple of sixteen, not 0.
//
// AESE and AESD add the round key first. So the key before the last goes into the last
// of them, without AESMC or AESIMC behind it, and the last key is added separately.

// func subWord(w uint32) uint32
//
// With the same word in all columns the shift of rows does nothing, and with a round key
// of zero AESE is nothing but the S-box.
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVWU w+0(FP), R0
	VDUP R0, V0.S4
	VEOR V1.B16, V1.B16, V1.B16
	AESE V1.B16, V0.B16
	VMOV V0.S[0], R0
	MOVW R0, ret+8(FP)
	RET

// func invMixColumns(key *[16]byte)
TEXT ·invMixColumns(SB), NOSPLIT, $0-8
	MOVD key+0(FP), R0
	VLD1 (R0), [V0.B16]
	AESIMC V0.B16, V0.B16
	VST1 [V0.B16], (R0)
	RET

// func encryptChain(keys *[240]byte, rounds int, text *byte, n int)
//
// V0 is the block at work, and the ciphertext before the next one; V31 is the last round
// key.
TEXT ·encryptChain(SB), NOSPLIT, $0-32
	MOVD keys+0(FP), R0
	MOVD rounds+8(FP), R1
	MOVD text+16(FP), R2
	MOVD n+24(FP), R3
	ADD R1<<4, R0, R4
	VLD1 (R4), [V31.B16]
	SUB $16, R4, R5          // the key of the last AESE
	VLD1 (R5), [V30.B16]
	VLD1.P 16(R2), [V0.B16]  // IV
chainBlock:
	VLD1 (R2), [V1.B16]
	VEOR V1.B16, V0.B16, V0.B16
	MOVD R0, R6
chainRound:
	VLD1.P 16(R6), [V2.B16]
	AESE V2.B16, V0.B16
	AESMC V0.B16, V0.B16
	CMP R5, R6
	BLO chainRound
	AESE V30.B16, V0.B16
	VEOR V31.B16, V0.B16, V0.B16
	VST1.P [V0.B16], 16(R2)
	SUBS $16, R3, R3
	BNE chainBlock
	RET

// Two instructions that belong together stand together: processors join them.
#define round(key, block, aes, mix) \
	aes key.B16, block.B16; mix block.B16, block.B16

#define eightRounds(key, aes, mix) \
	round(key, V0, aes, mix); round(key, V1, aes, mix); round(key, V2, aes, mix); round(key, V3, aes, mix); \
	round(key, V4, aes, mix); round(key, V5, aes, mix); round(key, V6, aes, mix); round(key, V7, aes, mix)

#define last(block, aes) \
	aes V30.B16, block.B16; VEOR V31.B16, block.B16, block.B16

#define eightLast(aes) \
	last(V0, aes); last(V1, aes); last(V2, aes); last(V3, aes); \
	last(V4, aes); last(V5, aes); last(V6, aes); last(V7, aes)

// chain adds the plaintext at a lane to the block before it.
#define chain(lane, block) \
	VLD1 (lane), [V8.B16]; VEOR V8.B16, block.B16, block.B16

// func encryptLanes(keys *[240]byte, rounds int, lanes *[8]*byte, n int)
//
// Eight texts, the n/16 first blocks of each, a block of every text at a time. All eight
// are read before one is written: the same text may stand in several lanes.
TEXT ·encryptLanes(SB), NOSPLIT, $0-32
	MOVD keys+0(FP), R0
	MOVD rounds+8(FP), R1
	MOVD lanes+16(FP), R2
	MOVD n+24(FP), R3
	ADD R1<<4, R0, R4
	VLD1 (R4), [V31.B16]
	SUB $16, R4, R5          // the key of the last AESE
	VLD1 (R5), [V30.B16]
	LDP 0(R2), (R8, R9)
	LDP 16(R2), (R10, R11)
	LDP 32(R2), (R12, R13)
	LDP 48(R2), (R14, R15)
	VLD1.P 16(R8), [V0.B16]  // IVs
	VLD1.P 16(R9), [V1.B16]
	VLD1.P 16(R10), [V2.B16]
	VLD1.P 16(R11), [V3.B16]
	VLD1.P 16(R12), [V4.B16]
	VLD1.P 16(R13), [V5.B16]
	VLD1.P 16(R14), [V6.B16]
	VLD1.P 16(R15), [V7.B16]
lanesBlock:
	chain(R8, V0)
	chain(R9, V1)
	chain(R10, V2)
	chain(R11, V3)
	chain(R12, V4)
	chain(R13, V5)
	chain(R14, V6)
	chain(R15, V7)
	MOVD R0, R6
lanesRound:
	VLD1.P 16(R6), [V9.B16]
	eightRounds(V9, AESE, AESMC)
	CMP R5, R6
	BLO lanesRound
	eightLast(AESE)
	VST1.P [V0.B16], 16(R8)
	VST1.P [V1.B16], 16(R9)
	VST1.P [V2.B16], 16(R10)
	VST1.P [V3.B16], 16(R11)
	VST1.P [V4.B16], 16(R12)
	VST1.P [V5.B16], 16(R13)
	VST1.P [V6.B16], 16(R14)
	VST1.P [V7.B16], 16(R15)
	SUBS $16, R3, R3
	BNE lanesBlock
	RET

// func decryptChain(keys *[240]byte, rounds int, dst, text *byte, n int)
//
// Eight blocks at a time, then the rest one by one. V16 is the ciphertext before them,
// V17 to V24 the ciphertext that they are made of: dst may be where that is.
TEXT ·decryptChain(SB), NOSPLIT, $0-40
	MOVD keys+0(FP), R0
	MOVD rounds+8(FP), R1
	MOVD dst+16(FP), R7
	MOVD text+24(FP), R2
	MOVD n+32(FP), R3
	ADD R1<<4, R0, R4
	VLD1 (R4), [V31.B16]
	SUB $16, R4, R5          // the key of the last AESD
	VLD1 (R5), [V30.B16]
	VLD1.P 16(R2), [V16.B16] // IV
	SUBS $128, R3, R3
	BLO rest
eightBlocks:
	VLD1.P 64(R2), [V17.B16, V18.B16, V19.B16, V20.B16]
	VLD1.P 64(R2), [V21.B16, V22.B16, V23.B16, V24.B16]
	VMOV V17.B16, V0.B16
	VMOV V18.B16, V1.B16
	VMOV V19.B16, V2.B16
	VMOV V20.B16, V3.B16
	VMOV V21.B16, V4.B16
	VMOV V22.B16, V5.B16
	VMOV V23.B16, V6.B16
	VMOV V24.B16, V7.B16
	MOVD R0, R6
eightRound:
	VLD1.P 16(R6), [V9.B16]
	eightRounds(V9, AESD, AESIMC)
	CMP R5, R6
	BLO eightRound
	eightLast(AESD)
	VEOR V16.B16, V0.B16, V0.B16
	VEOR V17.B16, V1.B16, V1.B16
	VEOR V18.B16, V2.B16, V2.B16
	VEOR V19.B16, V3.B16, V3.B16
	VEOR V20.B16, V4.B16, V4.B16
	VEOR V21.B16, V5.B16, V5.B16
	VEOR V22.B16, V6.B16, V6.B16
	VEOR V23.B16, V7.B16, V7.B16
	VMOV V24.B16, V16.B16
	VST1.P [V0.B16, V1.B16, V2.B16, V3.B16], 64(R7)
	VST1.P [V4.B16, V5.B16, V6.B16, V7.B16], 64(R7)
	SUBS $128, R3, R3
	BHS eightBlocks
rest:
	ADDS $128, R3, R3
	BEQ done
oneBlock:
	VLD1.P 16(R2), [V17.B16]
	VMOV V17.B16, V0.B16
	MOVD R0, R6
oneRound:
	VLD1.P 16(R6), [V9.B16]
	round(V9, V0, AESD, AESIMC)
	CMP R5, R6
	BLO oneRound
	last(V0, AESD)
	VEOR V16.B16, V0.B16, V0.B16
	VMOV V17.B16, V16.B16
	VST1.P [V0.B16], 16(R7)
	SUBS $16, R3, R3
	BNE oneBlock
done:
	RET
