// The computer that the stand-ins for Windows's network libraries share: what each process
// has made of it stands in one file, which every one of them maps, as it would in the kernel.
// What changes is told in C:\windows\temp\calls.txt, a line each.
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <iphlpapi.h>
#include <netioapi.h>
#include <fwpmtypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __declspec(dllexport)
#define ADAPTERS 4
#define ROWS 256
#define NAME 512

// adapter is an interface of wintun's. It goes with the process that made it.
struct adapter {
	DWORD process; // 0: there is none
	NET_LUID luid;
	NET_IFINDEX index;
	GUID guid;
	WCHAR name[IF_MAX_STRING_SIZE + 1], kind[IF_MAX_STRING_SIZE + 1];
	MIB_IPINTERFACE_ROW stack[2];
	WCHAR servers[2][NAME];
};

struct filter {
	UINT64 id;
	GUID provider;
	WCHAR name[NAME];
};

// engine is the filtering engine.
struct engine {
	BOOL provider, sublayer;
	GUID provider_key, sublayer_key;
	UINT64 last;	  // identifier that was given
	unsigned removals; // of filters, so far
	unsigned filters;
	struct filter filter[ROWS];
};

struct computer {
	struct adapter adapter[ADAPTERS];
	unsigned addresses, routes;
	MIB_UNICASTIPADDRESS_ROW address[ROWS];
	MIB_IPFORWARD_ROW2 route[ROWS];
	struct engine engine;
};

static HANDLE turn; // whose is it to look at the computer

static void note(const char *format, ...)
{
	char line[4 * NAME];
	DWORD written;
	va_list arguments;
	va_start(arguments, format);
	int size = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	if (size > (int)sizeof line - 2)
		size = sizeof line - 2;
	line[size++] = '\n';
	HANDLE file = CreateFileA("C:\\windows\\temp\\calls.txt", FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_ALWAYS, 0, NULL);
	WriteFile(file, line, size, &written, NULL);
	CloseHandle(file);
}

static BOOL alive(DWORD process)
{
	DWORD code = 0;
	HANDLE handle = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, process);
	BOOL is = handle && GetExitCodeProcess(handle, &code) && code == STILL_ACTIVE;
	CloseHandle(handle);
	return is;
}

// remove_adapter takes an interface away, with all that is its.
static void remove_adapter(struct computer *c, struct adapter *a)
{
	unsigned i, left;
	for (i = left = 0; i < c->addresses; i++)
		if (c->address[i].InterfaceLuid.Value != a->luid.Value)
			c->address[left++] = c->address[i];
	c->addresses = left;
	for (i = left = 0; i < c->routes; i++)
		if (c->route[i].InterfaceLuid.Value != a->luid.Value)
			c->route[left++] = c->route[i];
	c->routes = left;
	note("interface - %ls", a->name);
	memset(a, 0, sizeof *a);
}

// enter gives the computer to this thread, until it leaves.
static struct computer *enter(void)
{
	static struct computer *computer;
	if (!turn)
		turn = CreateMutexA(NULL, FALSE, "Global\\computer");
	WaitForSingleObject(turn, INFINITE);
	if (!computer) {
		HANDLE file = CreateFileA("C:\\windows\\temp\\computer", GENERIC_READ | GENERIC_WRITE, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL, OPEN_ALWAYS, 0, NULL);
		HANDLE mapping = CreateFileMappingA(file, NULL, PAGE_READWRITE, 0, sizeof *computer, NULL);
		computer = MapViewOfFile(mapping, FILE_MAP_WRITE, 0, 0, 0);
	}
	for (int i = 0; i < ADAPTERS; i++)
		if (computer->adapter[i].process && !alive(computer->adapter[i].process))
			remove_adapter(computer, &computer->adapter[i]);
	return computer;
}

static void leave(void) { ReleaseMutex(turn); }
