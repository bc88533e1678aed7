// The one C++ file: libclang's C interface cannot emit code, so clang's own classes are used here,
// behind the C declaration of build.h.
#include "pass/build.h"

#include <clang/Basic/Diagnostic.h>
#include <clang/Basic/DiagnosticOptions.h>
#include <clang/CodeGen/CodeGenAction.h>
#include <clang/Frontend/CompilerInstance.h>
#include <clang/Frontend/CompilerInvocation.h>
#include <clang/Frontend/TextDiagnosticPrinter.h>
#include <llvm/IR/DebugInfoMetadata.h>
#include <llvm/IR/IntrinsicInst.h>
#include <llvm/IR/Module.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/VirtualFileSystem.h>
#include <llvm/Support/raw_ostream.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

extern "C" {
void LLVMInitializeBPFTargetInfo(void);
void LLVMInitializeBPFTarget(void);
void LLVMInitializeBPFTargetMC(void);
void LLVMInitializeBPFAsmPrinter(void);
void LLVMInitializeBPFAsmParser(void);
}

// Everything lives in a folder that exists nowhere: the object does not depend on the machine.
static const char folder[] = "/mesh/";

static char *copy_out(llvm::StringRef text)
{
	char *copy = static_cast<char *>(malloc(text.size() + 1));
	if (copy) {
		memcpy(copy, text.data(), text.size());
		copy[text.size()] = 0;
	}
	return copy;
}

static llvm::IntrusiveRefCntPtr<llvm::vfs::FileSystem> virtual_files(const build_file *files, size_t count)
{
	auto memory = llvm::makeIntrusiveRefCnt<llvm::vfs::InMemoryFileSystem>();
	for (size_t i = 0; i < count; i++)
		memory->addFile(std::string(folder) + files[i].name, 0,
				llvm::MemoryBuffer::getMemBuffer(files[i].text, files[i].name));
	return memory;
}

// Where the local variables lie. Nobody asks: the kernel is told of types, functions and lines (BTF) alone, and every
// pass pays for keeping the rest up to date, a fifth of the time of a build.
struct ForgetVariables : llvm::PassInfoMixin<ForgetVariables> {
	llvm::PreservedAnalyses run(llvm::Module &module, llvm::ModuleAnalysisManager &)
	{
		for (llvm::Function &function : module) {
			for (llvm::BasicBlock &block : function)
				for (llvm::Instruction &instruction : llvm::make_early_inc_range(block)) {
					instruction.dropDbgRecords();
					if (llvm::isa<llvm::DbgInfoIntrinsic>(instruction))
						instruction.eraseFromParent();
				}
			llvm::DISubprogram *told = function.getSubprogram();
			if (!told)
				continue;
			llvm::SmallVector<llvm::Metadata *, 8> parameters; // BTF names them
			for (llvm::DINode *node : told->getRetainedNodes())
				if (auto *variable = llvm::dyn_cast<llvm::DILocalVariable>(node);
				    variable && variable->getArg())
					parameters.push_back(variable);
			told->replaceRetainedNodes(llvm::MDTuple::get(module.getContext(), parameters));
		}
		return llvm::PreservedAnalyses::all();
	}
};

extern "C" int build_object(const build_file *files, size_t count, char **ret_object, size_t *ret_len, char **ret_log)
{
	LLVMInitializeBPFTargetInfo();
	LLVMInitializeBPFTarget();
	LLVMInitializeBPFTargetMC();
	LLVMInitializeBPFAsmPrinter();
	LLVMInitializeBPFAsmParser();

	std::string log;
	llvm::raw_string_ostream log_stream(log);
	auto options = llvm::makeIntrusiveRefCnt<clang::DiagnosticOptions>();
	clang::DiagnosticsEngine diagnostics(llvm::makeIntrusiveRefCnt<clang::DiagnosticIDs>(), options,
					     new clang::TextDiagnosticPrinter(log_stream, options.get()));
	std::string main_file = std::string(folder) + files[0].name;
	const char *arguments[] = {"-triple",
				   "bpfel",
				   "-target-cpu",
				   "v3",
				   "-emit-obj",
				   "-O2",
				   "-mrelocation-model",
				   "static",
				   "-debug-info-kind=constructor",
				   "-dwarf-version=5",
				   "-fdebug-compilation-dir=/mesh",
				   "-disable-free",
				   "-disable-llvm-verifier",
				   "-discard-value-names",
				   "-nostdsysteminc",
				   "-nobuiltininc",
				   "-std=gnu11",
				   "-x",
				   "c",
				   main_file.c_str()};
	auto invocation = std::make_shared<clang::CompilerInvocation>();
	if (!clang::CompilerInvocation::CreateFromArgs(*invocation, arguments, diagnostics)) {
		*ret_log = copy_out(log_stream.str());
		return -EIO;
	}
	invocation->getCodeGenOpts().PassBuilderCallbacks.push_back([](llvm::PassBuilder &passes) {
		passes.registerPipelineStartEPCallback([](llvm::ModulePassManager &first, llvm::OptimizationLevel) {
			first.addPass(ForgetVariables());
		});
	});
	clang::CompilerInstance compiler;
	compiler.setInvocation(invocation);
	compiler.createFileManager(virtual_files(files, count));
	compiler.createDiagnostics(new clang::TextDiagnosticPrinter(log_stream, options.get()), true);
	llvm::SmallVector<char, 0> object;
	compiler.setOutputStream(std::make_unique<llvm::raw_svector_ostream>(object));
	clang::EmitObjAction action;
	bool done = compiler.ExecuteAction(action);
	*ret_log = copy_out(log_stream.str());
	if (!done || object.empty())
		return -EIO;
	*ret_object = copy_out(llvm::StringRef(object.data(), object.size()));
	*ret_len = object.size();
	return *ret_object ? 0 : -ENOMEM;
}
