// Stand-in for the window's program: it leaves a sign that it was started, shown or hidden, and
// runs until it is ended.
#include <windows.h>
#include <string.h>

int WINAPI WinMain(HINSTANCE instance, HINSTANCE before, LPSTR arguments, int show)
{
	CloseHandle(CreateFileA(strcmp(arguments, "--hidden") ? "C:\\shown" : "C:\\hidden", GENERIC_WRITE, 0, NULL, CREATE_NEW, 0, NULL));
	Sleep(INFINITE);
	return 0;
}
