// Stand-in for the library of Windows that Go takes random numbers from: Debian 12's Wine
// has none. Every program of Go's loads it before anything else; so here what Wine 8 does
// otherwise than Windows 10 is put right.
#include <winsock2.h>
#include <windows.h>
#include <winternl.h>
#include <string.h>

#define NET_RESET 0x9800000f // SIO_UDP_NETRESET

BOOLEAN NTAPI SystemFunction036(void *buffer, ULONG size); // RtlGenRandom, of advapi32

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *buffer, SIZE_T size)
{
	return SystemFunction036(buffer, (ULONG)size);
}

static int (WINAPI *wines_ioctl)(SOCKET s, DWORD code, void *in, DWORD in_size, void *out, DWORD out_size, DWORD *done, WSAOVERLAPPED *o, void *routine);
static NTSTATUS (NTAPI *wines_pipe)(HANDLE *pipe, ULONG access, OBJECT_ATTRIBUTES *name, IO_STATUS_BLOCK *status, ULONG share, ULONG disposition,
	ULONG options, ULONG type, ULONG mode, ULONG completion, ULONG most, ULONG in, ULONG out, LARGE_INTEGER *wait);

// Wine refuses not to be told of unreachable networks, which it never tells.
static int WINAPI ioctl(SOCKET s, DWORD code, void *in, DWORD in_size, void *out, DWORD out_size, DWORD *done, WSAOVERLAPPED *o, void *routine)
{
	if (code == NET_RESET)
		return 0;
	return wines_ioctl(s, code, in, in_size, out, out_size, done, o, routine);
}

// Wine gives a client to a pipe's first instance, though nobody listens there. Here one gets
// it that wants nothing.
static NTSTATUS NTAPI pipe(HANDLE *pipe, ULONG access, OBJECT_ATTRIBUTES *name, IO_STATUS_BLOCK *status, ULONG share, ULONG disposition,
	ULONG options, ULONG type, ULONG mode, ULONG completion, ULONG most, ULONG in, ULONG out, LARGE_INTEGER *wait)
{
	NTSTATUS failed = wines_pipe(pipe, access, name, status, share, disposition, options, type, mode, completion, most, in, out, wait);
	if (!failed && disposition == FILE_CREATE) {
		OBJECT_ATTRIBUTES same = {.Length = sizeof same, .ObjectName = name->ObjectName, .Attributes = name->Attributes};
		IO_STATUS_BLOCK ignored;
		HANDLE client;
		NtOpenFile(&client, GENERIC_READ | SYNCHRONIZE, &same, &ignored, 0, 0);
	}
	return failed;
}

// replace has whoever asks a library for a function find ours. Between a library's headers
// and its code there is room for a jump.
static void *replace(const char *library, const char *name, const void *ours)
{
	char *base = (char *)LoadLibraryA(library);
	IMAGE_NT_HEADERS *headers = (IMAGE_NT_HEADERS *)(base + ((IMAGE_DOS_HEADER *)base)->e_lfanew);
	IMAGE_EXPORT_DIRECTORY *exports = (IMAGE_EXPORT_DIRECTORY *)(base + headers->OptionalHeader.DataDirectory[0].VirtualAddress);
	DWORD *names = (DWORD *)(base + exports->AddressOfNames), *functions = (DWORD *)(base + exports->AddressOfFunctions), was, i = 0;
	while (strcmp(base + names[i], name))
		i++;
	DWORD *function = &functions[((WORD *)(base + exports->AddressOfNameOrdinals))[i]];
	void *wines = base + *function;
	char *jump = base + 0xf00;
	VirtualProtect(jump, 12, PAGE_EXECUTE_READWRITE, &was);
	memcpy(jump, "\x48\xb8", 2); // mov rax, ours
	memcpy(jump + 2, &ours, 8);
	memcpy(jump + 10, "\xff\xe0", 2); // jmp rax
	VirtualProtect(function, sizeof *function, PAGE_READWRITE, &was);
	*function = jump - base;
	VirtualProtect(function, sizeof *function, was, &was);
	return wines;
}

BOOL WINAPI DllMain(HINSTANCE self, DWORD reason, void *reserved)
{
	if (reason == DLL_PROCESS_ATTACH) {
		wines_ioctl = replace("ws2_32.dll", "WSAIoctl", ioctl);
		wines_pipe = replace("ntdll.dll", "NtCreateNamedPipeFile", pipe);
	}
	return TRUE;
}
