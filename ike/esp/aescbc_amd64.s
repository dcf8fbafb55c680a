#include "textflag.h"

// AES-CBC (FIPS 197, SP 800-38A §6.2) by the AES instructions. Round keys lie one after
// the other from *keys on, sixteen bytes each, rounds+1 of them. IV and blocks lie one
// after the other, too; n counts the bytes of the blocks, a multiple of sixteen, not 0.

// func subWord(w uint32) uint32
//
// With the same word in all columns the shift of rows does nothing, and with a round key
// of zero the last round is nothing but the S-box.
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVL w+0(FP), AX
	MOVL AX, X0
	PSHUFD $0, X0, X0
	PXOR X1, X1
	AESENCLAST X1, X0
	MOVL X0, AX
	MOVL AX, ret+8(FP)
	RET

// func invMixColumns(key *[16]byte)
TEXT ·invMixColumns(SB), NOSPLIT, $0-8
	MOVQ key+0(FP), AX
	MOVOU (AX), X0
	AESIMC X0, X0
	MOVOU X0, (AX)
	RET

// func encryptChain(keys *[240]byte, rounds int, text *byte, n int)
//
// X0 is the block at work, and the ciphertext before the next one.
TEXT ·encryptChain(SB), NOSPLIT, $0-32
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), R8
	MOVQ text+16(FP), SI
	MOVQ n+24(FP), CX
	SHLQ $4, R8
	ADDQ AX, R8              // the last round key
	MOVOU (SI), X0           // IV
chainBlock:
	MOVOU 16(SI), X1
	MOVOU (AX), X2
	PXOR X2, X1              // off the path from block to block
	PXOR X1, X0
	LEAQ 16(AX), BX
chainRound:
	MOVOU (BX), X2
	AESENC X2, X0
	ADDQ $16, BX
	CMPQ BX, R8
	JB chainRound
	MOVOU (R8), X2
	AESENCLAST X2, X0
	MOVOU X0, 16(SI)
	ADDQ $16, SI
	SUBQ $16, CX
	JNZ chainBlock
	RET

// eight applies an instruction with the key in X8 to eight blocks.
#define eight(op) \
	op X8, X0; op X8, X1; op X8, X2; op X8, X3; \
	op X8, X4; op X8, X5; op X8, X6; op X8, X7

// chain adds the plaintext after CX bytes of a lane to the block before it.
#define chain(lane, block) \
	MOVOU 16(lane)(CX*1), X9; PXOR X9, block

// func encryptLanes(keys *[240]byte, rounds int, lanes *[8]*byte, n int)
//
// Eight texts, the n/16 first blocks of each, a block of every text at a time. All eight
// are read before one is written: the same text may stand in several lanes.
TEXT ·encryptLanes(SB), NOSPLIT, $0-32
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), DX
	MOVQ lanes+16(FP), BX
	SHLQ $4, DX
	ADDQ AX, DX              // the last round key
	MOVQ 0(BX), SI
	MOVQ 8(BX), DI
	MOVQ 16(BX), R8
	MOVQ 24(BX), R9
	MOVQ 32(BX), R10
	MOVQ 40(BX), R11
	MOVQ 48(BX), R12
	MOVQ 56(BX), R13
	MOVOU (SI), X0           // IVs
	MOVOU (DI), X1
	MOVOU (R8), X2
	MOVOU (R9), X3
	MOVOU (R10), X4
	MOVOU (R11), X5
	MOVOU (R12), X6
	MOVOU (R13), X7
	XORL CX, CX
lanesBlock:
	chain(SI, X0)
	chain(DI, X1)
	chain(R8, X2)
	chain(R9, X3)
	chain(R10, X4)
	chain(R11, X5)
	chain(R12, X6)
	chain(R13, X7)
	MOVOU (AX), X8
	eight(PXOR)
	LEAQ 16(AX), BX
lanesRound:
	MOVOU (BX), X8
	eight(AESENC)
	ADDQ $16, BX
	CMPQ BX, DX
	JB lanesRound
	MOVOU (DX), X8
	eight(AESENCLAST)
	MOVOU X0, 16(SI)(CX*1)
	MOVOU X1, 16(DI)(CX*1)
	MOVOU X2, 16(R8)(CX*1)
	MOVOU X3, 16(R9)(CX*1)
	MOVOU X4, 16(R10)(CX*1)
	MOVOU X5, 16(R11)(CX*1)
	MOVOU X6, 16(R12)(CX*1)
	MOVOU X7, 16(R13)(CX*1)
	ADDQ $16, CX
	CMPQ CX, n+24(FP)
	JB lanesBlock
	RET

// func decryptChain(keys *[240]byte, rounds int, dst, text *byte, n int)
//
// Eight blocks at a time, then the rest one by one. X15 is the ciphertext before them.
// A group of blocks is read to its end before the first of it is written: dst may be
// where the ciphertext is.
TEXT ·decryptChain(SB), NOSPLIT, $0-40
	MOVQ keys+0(FP), AX
	MOVQ rounds+8(FP), DX
	MOVQ dst+16(FP), DI
	MOVQ text+24(FP), SI
	MOVQ n+32(FP), CX
	SHLQ $4, DX
	ADDQ AX, DX              // the last round key
	MOVOU (SI), X15          // IV
	ADDQ $16, SI
	SUBQ $128, CX
	JB rest
eightBlocks:
	MOVOU 0(SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU 64(SI), X4
	MOVOU 80(SI), X5
	MOVOU 96(SI), X6
	MOVOU 112(SI), X7
	MOVOU (AX), X8
	eight(PXOR)
	LEAQ 16(AX), BX
eightRound:
	MOVOU (BX), X8
	eight(AESDEC)
	ADDQ $16, BX
	CMPQ BX, DX
	JB eightRound
	MOVOU (DX), X8
	eight(AESDECLAST)
	MOVOU 0(SI), X8
	MOVOU 16(SI), X9
	MOVOU 32(SI), X10
	MOVOU 48(SI), X11
	MOVOU 64(SI), X12
	MOVOU 80(SI), X13
	MOVOU 96(SI), X14
	PXOR X15, X0
	MOVOU 112(SI), X15
	PXOR X8, X1
	PXOR X9, X2
	PXOR X10, X3
	PXOR X11, X4
	PXOR X12, X5
	PXOR X13, X6
	PXOR X14, X7
	MOVOU X0, 0(DI)
	MOVOU X1, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X3, 48(DI)
	MOVOU X4, 64(DI)
	MOVOU X5, 80(DI)
	MOVOU X6, 96(DI)
	MOVOU X7, 112(DI)
	ADDQ $128, SI
	ADDQ $128, DI
	SUBQ $128, CX
	JAE eightBlocks
rest:
	ADDQ $128, CX
	JZ done
oneBlock:
	MOVOU (SI), X1
	MOVOU X1, X0
	MOVOU (AX), X8
	PXOR X8, X0
	LEAQ 16(AX), BX
oneRound:
	MOVOU (BX), X8
	AESDEC X8, X0
	ADDQ $16, BX
	CMPQ BX, DX
	JB oneRound
	MOVOU (DX), X8
	AESDECLAST X8, X0
	PXOR X15, X0
	MOVOU X1, X15
	MOVOU X0, (DI)
	ADDQ $16, SI
	ADDQ $16, DI
	SUBQ $16, CX
	JNZ oneBlock
done:
	RET
